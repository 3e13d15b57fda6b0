"""The places of roots, and the choice of the root that is evicted (docs/reference/bounds.md, The image)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from model.naive_admission import Party, Whose
from model.naive_answers import Answer, by_record

NEVER = float("inf")
Measure = Callable[[list["Place"]], int]


class WrongEvictionError(AssertionError):
    """The image evicted a root that was not next, or kept one that was."""


@dataclass(eq=False)
class Place:
    """The place of one root: the party that asked first with its owner, all owners that asked, and the held answers."""

    root: str
    whose: Whose
    askers: set[Party] = field(default_factory=set)
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

    def answered(self, root: str, whose: Whose) -> Place:
        """Return the place of a root that is answered; a root without a place gets one."""
        place = self.by_root.pop(root, None) or Place(root, whose)
        self.by_root[root] = place
        place.askers.add(whose.owner)
        return place

    @property
    def excess(self) -> str:
        """Return the name of a bound that is exceeded, "" if none is."""
        if len(self.by_root) > self.size:
            return "size"
        return "relations" if self._related() > self.relations else ""

    @property
    def owners(self) -> set[Party]:
        """Return the owners that hold a place."""
        return {place.whose.owner for place in self.by_root.values()}

    @property
    def busy(self) -> set[object]:
        """Return the hosts that hold more than half of the places or of the relations, if there are several hosts."""
        hosts = {owner[0] for owner in self.owners}
        own = {host: [one for one in self.by_root.values() if one.whose.owner[0] == host] for host in hosts}
        return {host for host in hosts if len(hosts) > 1 and self._too_many(own[host], 2)}

    @property
    def greedy(self) -> dict[Party, list[Measure]]:
        """Return the owners that hold more than half of the places or of the relations, and what they have too many of.

        A busy host has half of all, and an owner there half of this.
        """
        busy = self.busy
        found = {owner: self._too_many(self._owned(owner), 4 if owner[0] in busy else 2) for owner in self.owners}
        return {owner: measures for owner, measures in found.items() if measures}

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
        """Return the roots of which one must be evicted, the usual one first.

        A greedy owner gives up a root of its largest party, else a busy host any of its roots, else anybody. Of several
        such owners, parties or hosts either may give it up. Who has nothing but a new root that is live gives up none.
        An owner gives up last what another owner asked for, too, and a host what another host asked for.
        """
        places, busy = list(self.by_root.values()), self.busy
        owners = [one for owner, measures in self.greedy.items() for one in self._largest(owner, measures, new, ended)]
        hosts = [[place for place in places if place.whose.owner[0] == host] for host in busy]
        order = list(self.by_root)
        groups = [(owners, several_owners), (hosts, several_hosts), ([places], bool)]
        for group, last in groups:
            if found := [root for own in group for root in self._next_of(own, new, ended, last)]:
                return sorted(found, key=lambda root: (root == new, order.index(root)))
        return []

    def _largest(
        self, owner: Party, measures: list[Measure], new: str, ended: Callable[[Place], bool]
    ) -> list[list[Place]]:
        """Return the places of each party that is the largest of its owner by one of the measures."""
        own = self._owned(owner)
        parties = [[place for place in own if place.whose.party == party] for party in {one.whose.party for one in own}]
        able = [party for party in parties if self._next_of(party, new, ended)]
        return [party for measure in measures for party in able if measure(party) == max(map(measure, able))]

    def _next_of(
        self,
        own: list[Place],
        new: str,
        ended: Callable[[Place], bool],
        last: Callable[[Place], bool] = bool,
    ) -> list[str]:
        """Return the ended roots, without one the least recently used; a new root may go if it has ended.

        Roots that are `last` go after the others.
        """
        gone = [place.root for place in own if ended(place)]
        kept = [place.root for place in sorted(own, key=last) if place.root != new]
        return gone if set(gone) - {new} else kept[:1] + gone

    def _owned(self, owner: Party) -> list[Place]:
        return [place for place in self.by_root.values() if place.whose.owner == owner]

    def _too_many(self, own: list[Place], part: int) -> list[Measure]:
        """Return by which measures places are more than a part of all."""
        places, relations = len(own) > self.size / part, related(own) > self.relations / part
        return [len] * places + [related] * relations

    def _related(self) -> int:
        return 0 if self.relations == NEVER else related(list(self.by_root.values()))


def several_owners(place: Place) -> bool:
    """Return whether more than one owner asked for a root."""
    return len(place.askers) > 1


def several_hosts(place: Place) -> bool:
    """Return whether more than one host asked for a root."""
    return len({host for host, *_ in place.askers}) > 1


def related(places: list[Place]) -> int:
    """Return the number of their relations."""
    return sum(place.relations for place in places)
