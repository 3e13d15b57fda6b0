"""The places of query roots, and the root that gives up its place next (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace, merge
from operator import attrgetter
from typing import TYPE_CHECKING

from dnstrail.dns.tables import PARTS, Shards
from dnstrail.image.answer import PartyKey, ShareKey
from dnstrail.image.holders import ALONE, HOSTS, MAX_PARTIES, OWNERS, HostPlaces, Owner, Party, Uses
from dnstrail.image.record import Root

if TYPE_CHECKING:
    from mypy_extensions import i64


class Places:
    """All roots, by name and in the order in which they give up their places.

    A root is in two orders: that of its host, and that of the party which asked for it first. `held` is the number of
    roots, and `relations` that of their relations. Who holds too much gives up own roots first: of several hosts one
    with more than half of all places or relations, on such a host an owner with more than a quarter, on a single host
    an owner with more than half. An owner gives up roots of its largest party. Roots that others asked for, too, go
    last: else whoever asks first for the names of others, and floods, would evict them with its own.
    """

    def __init__(self, size: int, relations: int) -> None:
        self.roots = Shards[Root]()
        self.held = 0
        self.relations = 0
        self._half_places = size // 2
        self._half_relations = relations // 2
        self._quarter_places = size // 4
        self._quarter_relations = relations // 4
        self._uses = 0
        self._numbered = 0
        self._hosts: dict[str, HostPlaces[Root]] = {}
        self._owners: dict[PartyKey, Owner[Root]] = {}
        self._oldest: list[tuple[int, int, Uses[Root]]] = []  # a heap: no root of the ring is older than the first
        self._with_ended: dict[HostPlaces[Root], None] = {}  # all hosts with roots that have ended
        # Those who held more than half (hosts) or a quarter (owners) since a check.
        self._grown_hosts: dict[HostPlaces[Root], None] = {}
        self._grown_owners: dict[Owner[Root], None] = {}

    def __iter__(self) -> Iterator[Root]:
        """Yield the roots in the order in which they give up their places."""
        for host in self._hosts.values():
            yield from host.ended
        rings = [ring for host in self._hosts.values() for ring in (host.used, host.shared)]
        yield from merge(*rings, key=attrgetter("last_use"))

    def find_or_add(self, name: str, share: ShareKey) -> Root:
        """Return the root of a question that a party asked; a new root belongs to it. The caller uses the root."""
        digest: i64 = hash(name)
        roots = self.roots.parts[digest % PARTS]
        root = roots.get(name)
        if root is None:
            party = self._party(share)
            root = roots[name] = Root(name, party)
            self.held += 1
            self._hold(party, 1, 0)
            return root
        if root.shared != HOSTS:
            host, sort, _, owner = root.party.key
            if share[0] != host:
                root.shared = HOSTS
            elif root.shared == ALONE and (share[3] != owner or share[1] != sort):
                root.shared = OWNERS
        return root

    def use(self, root: Root) -> None:
        """Make a root the last used one: it was answered, or a lookup found its result by it."""
        party = root.party
        host = party.owner.host
        self._uses += 1
        root.last_use = self._uses
        if root.ended:
            host.ended.append(root)
            party.ended.append(root)
            self._with_ended[host] = None
            return
        ring = host.shared if root.shared == HOSTS else host.used
        ring.append(root)
        if root.shared == ALONE:
            party.used.append(root)
        else:
            party.shared.append(root)
        if not ring.listed:
            ring.listed = True
            heappush(self._oldest, (root.last_use, ring.number, ring))

    def end(self, root: Root) -> None:
        """Note that all relations of a root have ended: it goes before the roots that are live."""
        root.ended = True
        self.use(root)

    def add_relations(self, root: Root, number: int) -> None:
        """Add a number of relations to a root and to the total; a negative number removes them."""
        self.relations += number
        self._hold(root.party, 0, number)

    def next(self, answered: Root) -> Root:
        """Return the root that gives up its place next; `answered` is the last choice, unless it has ended.

        No root was used later than `answered`.
        """
        for holder in self._greedy(answered) if self._grown_owners or self._grown_hosts else ():
            root = holder.next(answered)
            if root is not None:
                return root
        return self._first_of_all() or answered

    def remove(self, root: Root) -> None:
        """Remove a root, and those who held nothing else."""
        del self.roots[root.name]
        self.held -= 1
        root.leave()
        party = root.party
        self._hold(party, -1, 0)
        owner = party.owner
        host = owner.host
        if not party.places:
            del owner.parties[party.key[2]]
            party.close()
        if not owner.places:
            del self._owners[owner.key]
            self._grown_owners.pop(owner, None)
        if not host.places:
            self._remove_host(host)

    def _party(self, share: ShareKey) -> Party[Root]:
        """Return a party; beyond MAX_PARTIES of its owner the one of the owner's own cgroup."""
        name, sort, number, owned = share
        key = (name, sort, owned)
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = Owner(key, self._host(name))
        if number not in owner.parties and len(owner.parties) >= MAX_PARTIES:
            number = owned
        party = owner.parties.get(number)
        if party is None:
            party = owner.parties[number] = Party((name, sort, number, owned), owner)
        return party

    def _host(self, name: str) -> HostPlaces[Root]:
        host = self._hosts.get(name)
        if host is None:
            self._numbered += 1
            host = self._hosts[name] = HostPlaces(name, self._numbered)
        return host

    def _remove_host(self, host: HostPlaces[Root]) -> None:
        del self._hosts[host.name]
        self._with_ended.pop(host, None)
        self._grown_hosts.pop(host, None)
        self._oldest = [entry for entry in self._oldest if entry[2] is not host.used and entry[2] is not host.shared]
        heapify(self._oldest)
        host.close()

    def _hold(self, party: Party[Root], places: int, relations: int) -> None:
        """Count what a party holds, also for its owner and its host."""
        owner = party.owner
        host = owner.host
        party.places += places
        party.relations += relations
        owner.places += places
        owner.relations += relations
        host.places += places
        host.relations += relations
        if owner.places > self._quarter_places or owner.relations > self._quarter_relations:
            self._grown_owners[owner] = None
        if host.places > self._half_places or host.relations > self._half_relations:
            self._grown_hosts[host] = None

    def _greedy(self, answered: Root) -> list[Party[Root] | HostPlaces[Root]]:
        """Return who gives up own roots before anybody else does, the first one first."""
        hosts = self._busy_hosts() if len(self._hosts) > 1 else []
        holders: list[Party[Root] | HostPlaces[Root]] = []
        for owner in list(self._grown_owners):
            places, relations = self._half_places, self._half_relations
            if owner.host in hosts:
                places, relations = self._quarter_places, self._quarter_relations
            if owner.places > places or owner.relations > relations:
                party = owner.largest(answered, by_places=owner.places > places)
                if party is not None:
                    holders.append(party)
            elif owner.places <= self._quarter_places and owner.relations <= self._quarter_relations:
                del self._grown_owners[owner]
        holders += hosts
        return holders

    def _busy_hosts(self) -> list[HostPlaces[Root]]:
        """Return the hosts that hold more than half of all places, or of all relations."""
        for host in list(self._grown_hosts):
            if host.places <= self._half_places and host.relations <= self._half_relations:
                del self._grown_hosts[host]
        return list(self._grown_hosts)

    def _first_of_all(self) -> Root | None:
        """Return a root that has ended, else the least recently used; None if there is none."""
        for host in list(self._with_ended):
            root = host.ended.oldest()
            if root is not None:
                return root
            del self._with_ended[host]
        oldest = self._oldest
        while oldest:
            last_use, number, ring = oldest[0]
            root = ring.oldest()
            if root is None:
                heappop(oldest)
                ring.listed = False
            elif root.last_use > last_use:
                heapreplace(oldest, (root.last_use, number, ring))
            else:
                return root
        return None
