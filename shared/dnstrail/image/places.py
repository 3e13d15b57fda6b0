"""The places of query roots, and the root that gives up its place next (docs/image.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dnstrail.image.answer import PartyKey
from dnstrail.image.order import Order, Party
from dnstrail.image.record import Root
from dnstrail.image.shards import PARTS, Shards

if TYPE_CHECKING:
    from mypy_extensions import i64


class Places:
    """All roots, by name and in the order in which they give up their places.

    A root is in two orders: the order of all roots, and the order of the party that asked for it first. `held` is the
    number of roots, and `relations` that of their relations. A party that holds more than half of all places, or of all
    relations, gives up its own roots first.
    """

    def __init__(self, size: int, relations: int) -> None:
        self.roots = Shards[Root]()
        self.held = 0
        self.relations = 0
        self._half_places = size // 2
        self._half_relations = relations // 2
        self._order = Order[Root]()
        self._parties: dict[PartyKey, Party[Root]] = {}
        self._grown: dict[Party[Root], None] = {}  # parties that held more than half since a check

    def __iter__(self) -> Iterator[Root]:
        """Yield the roots in the order in which they give up their places."""
        return iter(self._order)

    def find_or_add(self, name: str, party: PartyKey) -> Root:
        """Return the root of a question; a new root belongs to this party."""
        digest: i64 = hash(name)
        roots = self.roots.parts[digest % PARTS]
        root = roots.get(name)
        if root is None:
            owner = self._parties.get(party)
            if owner is None:
                owner = self._parties[party] = Party(party)
            root = roots[name] = Root(name, owner)
            self.held += 1
            owner.places += 1
            if owner.places > self._half_places:
                self._grown[owner] = None
        return root

    def use(self, root: Root) -> None:
        """Make a root the last used one: it was answered, or a lookup found its result by it."""
        everywhere, party = self._order, root.party
        if root.ended:
            everywhere.ended.append(root)
            party.ended.append(root)
        else:
            everywhere.used.append(root)
            party.used.append(root)

    def end(self, root: Root) -> None:
        """Note that all relations of a root have ended: it goes before the roots that are live."""
        root.ended = True
        self.use(root)

    def add_relations(self, root: Root, number: int) -> None:
        """Add a number of relations to a root and to the total; a negative number removes them."""
        root.party.relations += number
        self.relations += number
        if root.party.relations > self._half_relations:
            self._grown[root.party] = None

    def next(self, answered: Root) -> Root:
        """Return the root that gives up its place next; `answered` is the last choice, unless it has ended."""
        greedy = self._greedy() if self._grown else []
        found = _first(greedy, answered) if greedy else None
        return found or _first([self._order], answered) or answered

    def remove(self, root: Root) -> None:
        """Remove a root, and its party if this was its only root."""
        del self.roots[root.name]
        self.held -= 1
        root.leave()
        party = root.party
        party.places -= 1
        if not party.places:
            del self._parties[party.key]
            party.close()

    def _greedy(self) -> list[Party[Root]]:
        """Return the parties that hold more than half of all places, or of all relations."""
        for party in list(self._grown):
            if party.places <= self._half_places and party.relations <= self._half_relations:
                del self._grown[party]
        return list(self._grown)


def _first(orders: Sequence[Order[Root] | Party[Root]], answered: Root) -> Root | None:
    """Return the first root of some orders: one that has ended, else the least recently used but `answered`."""
    for order in orders:
        root = order.ended.oldest()
        if root is not None:
            return root
    for order in orders:
        root = order.used.oldest()
        if root is answered:
            root = order.used.second_oldest()
        if root is not None:
            return root
    return None
