"""The walks of a lookup: up to the names that lead to a key, and down to what it leads to (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dnstrail.dns.names import address_text
from dnstrail.dns.rdata import ADDRESSES, BINDINGS, FAR
from dnstrail.image.answer import Edge
from dnstrail.image.graph import newest_first
from dnstrail.image.record import INDEXED, LATE, Record
from dnstrail.image.view import NEVER, View

# The order of an address: its freshness (negative), the number of the answer, and its place there.
Rank = tuple[int, int, int]


class Up:
    """The names that lead to a key. `nearer` maps each name to the next node on its way, nearest names first.

    `freshness` contains for each name the last stamp of the live relations that lead from it towards the key. `cut`
    states that a bound ended the walk.
    """

    __slots__ = ("cut", "freshness", "nearer")

    def __init__(self, view: View, key: str, nodes: int) -> None:
        self.nearer = {key: ""}
        self.freshness: dict[str, int] = {}
        self.cut = self._climb(view, [key], nodes)

    def chain(self, name: str) -> list[str]:
        """Return the nodes from a name to the key, both included; [] from a name that does not lead there."""
        nodes = []
        while name in self.nearer:
            nodes.append(name)
            name = self.nearer[name]
        return nodes

    def _climb(self, view: View, pending: list[str], nodes: int) -> bool:  # noqa: C901 - see Down._descend
        """Walk from the pending nodes. A relation that cannot make its owner fresher is not read."""
        nearer, freshness, into = self.nearer, self.freshness, view.graph.into
        for node in pending:  # the list grows during the loop: breadth first
            for record in newest_first(into, node):
                edges, places = record.edges, None
                if len(edges) > INDEXED:
                    places = record.leading_to(node)
                    edges = _at(edges, places)
                number = -1
                for owner, _, target in edges:
                    number += 1
                    if target != node:
                        continue
                    view.budget -= 1
                    if view.budget < 0:
                        return True
                    known = freshness.get(owner, NEVER)
                    if known >= record.latest:
                        continue
                    fresh = view.freshness(record, number if places is None else places[number])
                    if fresh <= known:
                        continue
                    if owner not in nearer:
                        if len(nearer) > nodes:
                            return True
                        nearer[owner] = node
                        pending.append(owner)
                    freshness[owner] = fresh
        return view.budget < 0


class Down:
    """The names and addresses to which a name leads. `near` and `far` contain the addresses by their rank.

    Alias, address and service-binding relations lead to near addresses, MX and SRV relations to far ones. `freshness`
    contains for each name and address the last stamp of the live relations that lead to it. `cut` states that a bound
    ended the walk.
    """

    __slots__ = ("_nodes", "_seen", "_services", "cut", "far", "freshness", "near")

    def __init__(self, view: View, key: str, nodes: int) -> None:
        self.near: dict[str, Rank] = {}
        self.far: dict[str, Rank] = {}
        self.freshness: dict[str, int] = {}
        self._nodes = nodes
        self._seen = {key}
        self._services: list[str] = []
        self.cut = self._descend(view, [key], self.near, FAR)
        if self._services and not self.cut:
            pending = [name for name in dict.fromkeys(self._services) if name not in self._seen]
            self._seen.update(pending)
            self.cut = self._descend(view, pending, self.far, _NONE)

    def addresses(self) -> list[str]:
        """Return the addresses, near ones first; each group newest first, ties in the order of an answer."""
        near = [*self.near]
        if len(near) > 1:
            near.sort(key=self.near.__getitem__)
        if self.far:
            near += [address for address in sorted(self.far, key=self.far.__getitem__) if address not in self.near]
        return near

    def _descend(  # noqa: C901 - runs for each relation, and a call costs more than the tests
        self, view: View, pending: list[str], addresses: dict[str, Rank], left: frozenset[int]
    ) -> bool:
        """Walk from the pending names, except to targets of the kinds `left`, which are left for a second walk.

        A relation that cannot make its target fresher is not read: thousands of records may state the same relations.
        A `settled` target of the node has a freshness of `least` or more.
        """
        freshness, seen, budget = self.freshness, self._seen, view.budget
        for node in pending:  # the list grows during the loop: breadth first
            settled: set[str] = set()
            least = LATE
            for record in newest_first(view.graph.out, node):
                edges, places = record.edges, None
                if len(edges) > INDEXED:
                    places = record.owned_by(node)
                    edges = _at(edges, places)
                skipped, number = settled if record.latest < least else _NOTHING, -1
                for owner, kind, target in edges:
                    number += 1
                    if owner != node:
                        continue
                    budget -= 1
                    if target in skipped and budget >= 0:
                        continue
                    view.budget, skipped = budget, _NOTHING
                    if budget < 0:
                        return True
                    known = freshness.get(target, NEVER)
                    if known > record.latest and (target in seen or target in addresses):
                        continue
                    place = number if places is None else places[number]
                    fresh = view.freshness(record, place)
                    if fresh == NEVER:
                        continue
                    if known == NEVER and len(freshness) >= self._nodes:
                        return True
                    if fresh > known:
                        freshness[target] = known = fresh
                    self._follow(view, record, place, fresh, pending, addresses, left)
                    if kind not in left:
                        settled.add(target)
                        least = min(least, known)
        view.budget = budget
        return budget < 0

    def _follow(
        self,
        view: View,
        record: Record,
        place: int,
        fresh: int,
        pending: list[str],
        addresses: dict[str, Rank],
        left: frozenset[int],
    ) -> None:
        """Rank the target of a relation if it is an address, and else add it to the names of a walk."""
        _, kind, target = record.edges[place]
        if kind in ADDRESSES or (kind in BINDINGS and address_text(target) is not None):
            number = record.youngest.number if fresh == record.latest else view.number(record, place, fresh)
            known = addresses.get(target)
            # Of equally fresh answers the last one counts, with its first place.
            if known is None or (-fresh, -number, place) < (known[0], -known[1], known[2]):
                addresses[target] = -fresh, number, place
        elif kind in left:
            self._services.append(target)
        elif target not in self._seen:
            self._seen.add(target)
            pending.append(target)


_NONE: Final[frozenset[int]] = frozenset()
_NOTHING: Final[set[str]] = set()


def _at(edges: tuple[Edge, ...], places: Sequence[int]) -> tuple[Edge, ...]:
    return tuple([edges[place] for place in places])
