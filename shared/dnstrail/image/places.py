"""The places of query roots: who holds how many, and who gives one up (docs/image.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from dnstrail.image.answer import PartyKey
from dnstrail.image.order import Order, Party
from dnstrail.image.record import Root


class Places:
    """All roots, by name and in the order in which they give up their places.

    A root is in two orders: that of all roots, and that of the party that asked for it first. `relations` is the sum
    over all roots. A party that holds more than half of all places, or of all relations, gives up its own roots first.
    """

    def __init__(self, size: int, relations: int) -> None:
        self.roots: dict[str, Root] = {}
        self.relations = 0
        self._half_places = size // 2
        self._half_relations = relations // 2
        self._order = Order[Root]()
        self._parties: dict[PartyKey, Party[Root]] = {}
        self._grown: dict[Party[Root], None] = {}  # the parties that held more than half of something

    def __iter__(self) -> Iterator[Root]:
        """Return the roots in the order in which they give up their places."""
        return iter(self._order)

    def find_or_add(self, name: str, party: PartyKey) -> Root:
        """Return the root of a question; a new root belongs to this party."""
        root = self.roots.get(name)
        if root is None:
            owner = self._parties.get(party)
            if owner is None:
                owner = self._parties[party] = Party(party)
            root = self.roots[name] = Root(name, owner)
            owner.places += 1
            if owner.places > self._half_places:
                self._grown[owner] = None
        return root

    def use(self, root: Root) -> None:
        """Note that a root was answered, or that a lookup found its result by it. An answer revives an ended root."""
        everywhere, party = self._order, root.party
        if root.ended:
            everywhere.ended.append(root.in_all)
            party.ended.append(root.in_party)
        else:
            everywhere.used.append(root.in_all)
            party.used.append(root.in_party)

    def end(self, root: Root) -> None:
        """Note that all relations of a root have ended: it goes before the others."""
        root.ended = True
        self.use(root)

    def add_relations(self, root: Root, number: int) -> None:
        """Count relations that a root gained, or lost (negative)."""
        root.party.relations += number
        self.relations += number
        if root.party.relations > self._half_relations:
            self._grown[root.party] = None

    def next(self, answered: Root) -> Root:
        """Return the root that gives up its place next: one that has ended, or another than `answered`."""
        everybody: Sequence[Order[Root]] = [self._order]
        for orders in (self._greedy(), everybody):
            for root in chain(chain.from_iterable(order.ended for order in orders), *(order.used for order in orders)):
                if root is not answered or root.ended:
                    return root
        return answered

    def remove(self, root: Root) -> None:
        """Remove a root, and the party if it holds nothing else."""
        del self.roots[root.name]
        party = root.party
        party.places -= 1
        if not party.places:
            del self._parties[party.key]
        root.leave()

    def _greedy(self) -> list[Party[Root]]:
        """Return the parties that hold more than half of all places, or of all relations."""
        for party in list(self._grown):
            if party.places <= self._half_places and party.relations <= self._half_relations:
                del self._grown[party]
        return list(self._grown)
