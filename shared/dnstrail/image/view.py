"""The live relations at one time: what every walk walks over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from dnstrail.image.relation import Kind, Relation


class EdgeTable(Protocol):
    """Relations by their owner and by their target."""

    @property
    def out(self) -> dict[str, dict[tuple[Kind, str], Relation]]:
        """Owner -> (kind, target) -> relation."""
        ...

    @property
    def into(self) -> dict[str, dict[Relation, None]]:
        """Target -> relations."""
        ...


class View:
    """What is live at `t`: `t < expires`, and first seen by `seen_by` (in the past, what came later is unknown)."""

    __slots__ = ("_forward", "_last_seen", "_pointers", "exact", "grace", "seen_by", "t")

    def __init__(self, forward: EdgeTable, pointers: EdgeTable, t: float, grace: float, seen_by: float) -> None:
        self._forward = forward
        self._pointers = pointers
        self.t = t
        self.grace = grace
        self.seen_by = seen_by
        self.exact = True  # False once a relation was met whose later sightings cannot be told from its earlier ones
        self._last_seen: dict[str, float] = {}

    def without_grace(self) -> View:
        """The same view as if there were no grace."""
        return View(self._forward, self._pointers, self.t, 0.0, self.seen_by)

    def live(self, relation: Relation) -> bool:
        """Whether a relation is live."""
        if self.t >= relation.ends + self.grace or relation.first_seen > self.seen_by:
            return False
        if relation.last_seen > self.seen_by:
            self.exact = False
        return True

    def out(self, name: str) -> list[Relation]:
        """The forward relations that a name owns."""
        return [*filter(self.live, self._forward.out.get(name, {}).values())]

    def into(self, node: str) -> list[Relation]:
        """The forward relations whose target is a node."""
        return [*filter(self.live, self._forward.into.get(node, ()))]

    def touching(self, node: str) -> Iterator[Relation]:
        """The forward relations of which a node is an end."""
        yield from self.out(node)
        yield from self.into(node)

    def last_seen(self, node: str) -> float:
        """The last sighting of the forward relations that touch a node."""
        seen = self._last_seen.get(node)
        if seen is None:
            seen = max((relation.last_seen for relation in self.touching(node)), default=float("-inf"))
            self._last_seen[node] = seen
        return seen

    def touches(self, node: str) -> bool:
        """Whether any forward relation touches a node."""
        return bool(self.out(node) or self.into(node))

    def names_of(self, address: str) -> list[Relation]:
        """The PTR relations of an address."""
        return [*filter(self.live, self._pointers.out.get(address, {}).values())]

    def addresses_of(self, name: str) -> list[Relation]:
        """The PTR relations whose target is a name."""
        return [*filter(self.live, self._pointers.into.get(name, ()))]
