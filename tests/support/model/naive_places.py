"""The places of roots, and the choice of the root that is evicted (docs/limits.md, The image)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from model.naive_admission import Party
from model.naive_answers import Answer, by_record

NEVER = float("inf")


class WrongEvictionError(AssertionError):
    """The image evicted a root that was not next, or kept one that was."""


@dataclass(eq=False)
class Place:
    """The place of one root: the party that asked first, and the answers that are held."""

    root: str
    party: Party
    answers: list[Answer] = field(default_factory=list)

    @property
    def relations(self) -> int:
        """Return the sum of the lengths of its records."""
        return sum(len(relations) for _, _, relations in by_record(self.answers))

    @property
    def last_end(self) -> int:
        """Return the end of its last relation, without the grace."""
        return max(answer.last_end for answer in self.answers)


class Places:
    """The roots that hold a place, the least recently used first; bounds are optional."""

    def __init__(self, size: float, relations: float) -> None:
        self.size, self.relations = size, relations
        self.by_root: dict[str, Place] = {}

    def use(self, root: str) -> None:
        """Make a root the most recently used."""
        self.by_root[root] = self.by_root.pop(root)

    def answered(self, root: str, party: Party) -> Place:
        """Return the place of a root that is answered; a root without a place gets one."""
        place = self.by_root.pop(root, None) or Place(root, party)
        self.by_root[root] = place
        return place

    @property
    def excess(self) -> str:
        """Return the name of a bound that is exceeded, "" if none is."""
        if len(self.by_root) > self.size:
            return "size"
        return "relations" if self._related() > self.relations else ""

    @property
    def greedy(self) -> set[Party]:
        """Return the parties that hold more than half of the places or of the relations."""
        return {party for party in self.parties if self._is_greedy(party)}

    @property
    def parties(self) -> set[Party]:
        """Return the parties that hold a place."""
        return {place.party for place in self.by_root.values()}

    def evictions(
        self, new: str, ended: Callable[[Place], bool], kept: Collection[str] | None
    ) -> list[tuple[str, str]]:
        """Return the bounds that are exceeded, each with the root that goes for it: the usual ones without `kept`.

        `kept` are the roots that an image kept; the same roots must go by some right choice.

        Raises:
            WrongEvictionError: No right choice evicts these roots.
        """
        order = self._order(new, ended, kept)
        if order is None:
            candidates = self.next_to_go(new, ended)
            raise WrongEvictionError(f"one of {candidates} goes next; the image kept {sorted(kept or ())}")
        return order

    def _order(
        self, new: str, ended: Callable[[Place], bool], kept: Collection[str] | None
    ) -> list[tuple[str, str]] | None:
        bound, before = self.excess, self.by_root
        if not bound:
            return [] if kept is None or set(before) <= set(kept) else None
        candidates = self.next_to_go(new, ended)
        for root in candidates[:1] if kept is None else [one for one in candidates if one not in kept]:
            self.by_root = {name: place for name, place in before.items() if name != root}
            rest = self._order(new, ended, kept)
            self.by_root = before
            if rest is not None:
                return [(bound, root), *rest]
        return None

    def next_to_go(self, new: str, ended: Callable[[Place], bool]) -> list[str]:
        """Return the roots of which one must be evicted, the usual one first: a greedy party's own, or any.

        Of several greedy parties either may give up a root.
        """
        candidates = [
            self._next_of([place for place in self.by_root.values() if party in (None, place.party)], new, ended)
            for party in self.greedy or {None}
        ]
        order = list(self.by_root)
        return sorted(
            (root for roots in candidates for root in roots), key=lambda root: (root == new, order.index(root))
        )

    def _next_of(self, own: list[Place], new: str, ended: Callable[[Place], bool]) -> list[str]:
        """Return the ended roots of a party, without one the least recently used; a new root may go if it has ended."""
        gone = [place.root for place in own if ended(place)]
        kept = [place.root for place in own if place.root != new]
        return gone if set(gone) - {new} else kept[:1] + gone

    def _is_greedy(self, party: Party) -> bool:
        own = [place for place in self.by_root.values() if place.party == party]
        return len(own) > self.size / 2 or sum(place.relations for place in own) > self.relations / 2

    def _related(self) -> int:
        return 0 if self.relations == NEVER else sum(place.relations for place in self.by_root.values())
