"""The live relations at one time: the graph of every walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dnstrail.image.edges import Edges
from dnstrail.image.relation import Relation

_ALWAYS = float("inf")


class View:
    """The relations that are live at `t`, by the sightings noted until `seen_by` (docs/lookups.md).

    A relation is live while `t < ends + grace`. `history` is how long the image remembers it after that. `exact` turns
    False when the view meets a relation whose past state is no longer known.
    """

    def __init__(
        self,
        forward: Edges,
        pointers: Edges,
        t: float,
        grace: float,
        *,
        history: float = 0.0,
        seen_by: float = _ALWAYS,
    ) -> None:
        self.t = t
        self.grace = grace
        self.history = history
        self.seen_by = seen_by
        self.exact = True
        self._lasting = grace  # the grace by which relations began a new life
        self._forward = forward
        self._pointers = pointers
        self._last_seen: dict[str, float] = {}
        self._pasts: dict[Relation, tuple[Relation | None, bool]] = {}

    def with_grace(self, grace: float) -> View:
        """Return the same view with another grace."""
        view = View(self._forward, self._pointers, self.t, grace, history=self.history, seen_by=self.seen_by)
        view._pasts, view._lasting = self._pasts, self._lasting
        return view

    def with_history(self) -> View:
        """Return the view that also contains what expired within the history, whether it is swept or not."""
        return self.with_grace(self.grace + self.history)

    def out(self, name: str) -> list[Relation]:
        """Return the forward relations that a name owns."""
        return self._live(self._forward.out.get(name, {}).values())

    def into(self, node: str) -> list[Relation]:
        """Return the forward relations whose target is a node."""
        return self._live(self._forward.into.get(node, ()))

    def touching(self, node: str) -> Iterator[Relation]:
        """Yield the forward relations whose owner or target is a node."""
        yield from self.out(node)
        yield from self.into(node)

    def last_seen(self, node: str) -> float:
        """Return the time of the last sighting of a forward relation that touches a node."""
        seen = self._last_seen.get(node)
        if seen is None:
            seen = max((relation.last_seen for relation in self.touching(node)), default=float("-inf"))
            self._last_seen[node] = seen
        return seen

    def touches(self, node: str) -> bool:
        """Return whether any forward relation touches a node."""
        return bool(self.out(node) or self.into(node))

    def names_of(self, address: str) -> list[Relation]:
        """Return the PTR relations of an address."""
        return self._live(self._pointers.out.get(address, {}).values())

    def addresses_of(self, name: str) -> list[Relation]:
        """Return the PTR relations whose target is a name."""
        return self._live(self._pointers.into.get(name, ()))

    def _live(self, relations: Iterable[Relation]) -> list[Relation]:
        if self.seen_by != _ALWAYS:
            relations = [past for relation in relations if (past := self._past(relation))]
        return [relation for relation in relations if self.t < relation.ends + self.grace]

    def _past(self, relation: Relation) -> Relation | None:
        """Return a relation as of `seen_by`; None if no root that is held had stated it by then."""
        if relation not in self._pasts:
            self._pasts[relation] = relation.as_of(self.seen_by, self._lasting)
        past, exact = self._pasts[relation]
        self.exact = self.exact and exact
        return past
