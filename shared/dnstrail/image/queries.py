"""The queries of the last 30 seconds: those that wait for their responses, and answered ones (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.captured import Flow, Process
from dnstrail.dns.names import V4_MAPPED
from dnstrail.image.answer import Edge
from dnstrail.image.bounds import SECOND, Counts
from dnstrail.image.holders import MAX_PARTIES
from dnstrail.image.order import Link, Ring
from dnstrail.image.parties import Doubts, OwnerSide, SideKey

WINDOW: Final = 30 * SECOND  #: ns for a response to match its query -> the response is unmatched: `unmatched_late`
#: ns by which the stamp of a response may precede its query -> the response is unmatched: `unmatched_early`
REORDER: Final = SECOND
COPY: Final = SECOND // 10  #: ns within which equal packets are copies -> the packet counts as another one
#: sightings of one query that wait -> the oldest is evicted: `pending_full`; the party is in doubt
MAX_SIGHTINGS: Final = 64
#: queries that wait on one side of an owner -> the oldest of its largest party is evicted: `pending_full`; that party
#: is in doubt
SHARE: Final = 1024
#: queries that wait on all sides of all owners -> the oldest of the largest party is evicted: `pending_full`
ALL_SHARES: Final = 16384  # hosts have equal parts of it, and their owners of these
#: answered queries whose first answers are compared with second ones -> the one answered first is dropped: no conflict
#: with a second answer is found
MAX_ANSWERED: Final = 32768
#: relations of an answer for `dns_answer_conflict` -> no conflict with a second answer is found
MAX_EDGES: Final = 64
MAX_ALL_EDGES: Final = 131072  # of the first answers of all answered queries
_STEPS: Final = 4  # queries that one call drops because they are too old

Address = tuple[bytes, int]
Key = tuple[object, ...]
ANY: Final[Address] = (b"", 0)  # a server that is unknown, or not compared
_ANY_SERVER: Final = (ANY,)


class HostQueries(Link):
    """The sides of parties on which queries of a host wait, the side that asked longest ago first.

    `owners` is the number of the sides of owners that these belong to.
    """

    __slots__ = ("name", "owners", "sides")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.owners = 0
        self.sides = Ring[Side]()

    def close(self) -> None:
        """Give up a host without sides: no cycle of references holds it in memory."""
        self.remove_link()
        self.sides.close()


class OwnerQueries:
    """The queries that wait on one side of an owner: `size` is their number, and `sides` are those of its parties."""

    __slots__ = ("host", "key", "sides", "size")

    def __init__(self, key: OwnerSide, host: HostQueries) -> None:
        self.key = key
        self.host = host
        self.size = 0
        self.sides: list[Side] = []

    def largest(self) -> Side:
        """Return the side of the party with most queries; of equal ones the one that began to wait first."""
        largest = self.sides[0]
        for side in self.sides:
            if side.size > largest.size:
                largest = side
        return largest


class Side(Link):
    """The queries that wait on one side of a party, the longest waiting first; `size` is their number.

    The parties of an owner beyond MAX_PARTIES share one.
    """

    __slots__ = ("key", "owner", "queries", "size")

    def __init__(self, key: SideKey, owner: OwnerQueries) -> None:
        super().__init__()
        self.key = key
        self.owner = owner
        self.queries = Ring[Query]()
        self.size = 0

    def close(self) -> None:
        """Give up an empty side."""
        self.remove_link()
        self.queries.close()


class Query(Link):
    """One query with all its retransmissions.

    `key` identifies it by its socket, or by its client where no socket is known; `client` identifies it by its client
    alone. `waits` are the sightings that no response has ended yet: the stamp, a hash of the bytes, and the sources
    that the response may come from. An answered query has none. `ended` are stamp and sources of the last one that was
    ended, and `edges` the relations of the response that ended it. `party` is the side of its party, and `side` the
    one on which it waits, which other parties of the owner may share. `pending` is for `Transactions` alone.
    """

    __slots__ = ("asker", "client", "edges", "ended", "key", "latest", "party", "pending", "side", "waits")

    def __init__(self, key: Key, client: Key, party: SideKey, side: Side, asker: Process | None) -> None:
        self.newer = self.older = None
        self.key = key
        self.client = client
        self.party = party
        self.side = side
        self.asker = asker
        self.pending: object = None
        self.latest = 0
        self.ended: tuple[int, tuple[Address, ...]] = (0, _ANY_SERVER)
        self.edges: tuple[Edge, ...] = ()
        self.waits: list[tuple[int, int, tuple[Address, ...]]] = []

    def is_copy(self, stamp: int, digest: int, servers: tuple[Address, ...]) -> bool:
        """Return whether a packet is a copy of one that waits."""
        for sighted, earlier, server in self.waits:
            if earlier == digest and server == servers and abs(stamp - sighted) <= COPY:
                return True
        return False

    def first_answer(self, stamp: int, server: Address) -> tuple[Edge, ...] | None:
        """Return the relations of the first answer, if this server now answers again; else None."""
        asked, servers = self.ended
        return self.edges if -REORDER <= stamp - asked <= WINDOW and may_answer(server, servers) else None

    def end_wait(self, stamp: int, server: Address) -> str:
        """End the first wait that this response can end, and return ""; else return the counter of the reason."""
        reason = "unmatched_query"
        for place, (sighted, _, servers) in enumerate(self.waits):
            if not -REORDER <= stamp - sighted <= WINDOW:
                reason = "unmatched_late" if stamp > sighted else "unmatched_early"
            elif may_answer(server, servers):
                self.waits.pop(place)
                self.ended = sighted, servers
                return ""
            else:
                reason = "unmatched_wrong_server"
        return reason


class Queries:
    """The queries that wait, and those that were answered.

    Each side of an owner has a share. Beyond a share the oldest waiting query of its largest party is evicted, and that
    side of that query's party is in doubt. Of the answered queries MAX_ANSWERED are held, with MAX_ALL_EDGES relations
    of their answers. Their eviction casts no doubt: a second answer to one is found by it, and nothing else. `waiting`,
    `answered` and `edges` are the numbers of queries and of these relations. `dropped` are queries with `pending`
    that are no longer held; `Transactions` empties it.
    """

    def __init__(self, doubts: Doubts, counters: Counts) -> None:
        self.counters = counters
        self.waiting = 0
        self.answered = 0
        self.edges = 0
        self.dropped: list[Query] = []
        self._doubts = doubts
        self._by_key: dict[Key, Query] = {}
        self._by_client: dict[Key, Query] = {}
        self._sides: dict[SideKey, Side] = {}
        self._owners: dict[OwnerSide, OwnerQueries] = {}
        self._hosts: dict[str, HostQueries] = {}
        self._order = Ring[HostQueries]()  # the host that asked last is the newest
        self._answered = Ring[Query]()
        self._emptied: Side | None = None  # the last one: most sides are needed again at once

    def find_waiting(self, key: Key, stamp: int) -> Query | None:
        """Return the query that waits with a key; one that is answered, or too old, is dropped."""
        query = self._by_key.get(key)
        if query is None:
            return None
        if not query.waits:
            self._drop(query)
        elif stamp - query.latest > WINDOW + REORDER:
            self._drop_unanswered(query)
        else:
            return query
        return None

    def find(self, key: Key, client: Key) -> Query | None:
        """Return the query of a response: by its socket, else the query without a socket of the same client.

        If `key` and `client` are the same, the response has no socket. Any query of that client is returned then. One
        that waits comes first.
        """
        query = self._by_key.get(key)
        if query is not None and query.waits:
            return query
        other = self._by_client.get(client)
        if other is not None and (key == client or other.key == other.client) and (other.waits or query is None):
            return other
        return query

    def side(self, key: SideKey) -> Side:
        """Return a side, for a query that is noted next."""
        side = self._sides.get(key)
        if side is None:
            self._remove_emptied()
            side = self._new_side(key)
            self._sides[side.key] = side
        return side

    def note(self, query: Query, stamp: int, digest: int, servers: tuple[Address, ...]) -> None:
        """Note a sighting of a new query, or of one that waits already."""
        self._by_client[query.client] = query
        side = query.side
        owner = side.owner
        host = owner.host
        if query.waits:
            self._repeat(query, stamp)
        else:
            self._by_key[query.key] = query
            self.waiting += 1
            side.size += 1
            owner.size += 1
        side.queries.append(query)
        host.sides.append(side)
        self._order.append(host)
        query.waits.append((stamp, digest, servers))
        if stamp > query.latest:
            query.latest = stamp
        self._drop_old(side, stamp)
        self._drop_oldest(host, side, stamp)
        idle = self._order.oldest()
        if idle is not None and idle is not host:
            self._drop_oldest(idle, side, stamp)
        part = max(ALL_SHARES // len(self._hosts), 1)
        share = SHARE if host.owners <= part // SHARE else max(part // host.owners, 1)
        while owner.size > share:
            self._evict(owner.largest(), stamp)
        while host.owners > part:
            if (oldest := host.sides.first()).size:
                self._evict(oldest, stamp)
            self._remove_emptied()

    def sender(self, stamp: int, client: Key) -> Process | None:
        """Return the sender of an arriving query, if the query was captured at the sender's socket just before."""
        sent = self._by_client.get(client)
        return sent.asker if sent is not None and abs(stamp - sent.latest) <= COPY else None

    def end(self, query: Query, stamp: int) -> None:
        """Hold a query whose waits have all ended as an answered one, and drop a few that are too old."""
        self._leave_side(query.side)
        self._answered.append(query)
        self.answered += 1
        self.edges += len(query.edges)
        for _ in range(_STEPS):
            oldest = self._answered.oldest()
            within = self.answered <= MAX_ANSWERED and self.edges <= MAX_ALL_EDGES
            if oldest is None or (within and stamp - oldest.ended[0] <= WINDOW + REORDER):
                return
            self._drop(oldest)

    def keep(self, query: Query, edges: tuple[Edge, ...]) -> None:
        """Hold the relations of the response that ended a wait of a query, in place of those of an earlier one."""
        if not query.waits:
            self.edges += len(edges) - len(query.edges)
        query.edges = edges

    def _drop(self, query: Query) -> None:
        """Drop a query."""
        del self._by_key[query.key]
        if self._by_client.get(query.client) is query:
            del self._by_client[query.client]
        query.remove_link()
        if query.pending is not None:
            self.dropped.append(query)
        if query.waits:
            self._leave_side(query.side)
        else:
            self.answered -= 1
            self.edges -= len(query.edges)

    def _drop_unanswered(self, query: Query) -> None:
        """Drop a query that waits and is too old, and count it if its sender got no response."""
        if query.party[1] and not query.ended[0]:
            self.counters["unanswered"] += 1
        self._drop(query)

    def _new_side(self, key: SideKey) -> Side:
        """Return an empty side of a party; beyond MAX_PARTIES of its owner the one of the owner's own cgroup."""
        (name, sort, number, owned), sent = key
        owner_key = ((name, sort, owned), sent)
        owner = self._owners.get(owner_key)
        if owner is None:
            host = self._hosts.get(name)
            if host is None:
                host = self._hosts[name] = HostQueries(name)
            host.owners += 1
            owner = self._owners[owner_key] = OwnerQueries(owner_key, host)
        if len(owner.sides) >= MAX_PARTIES and number != owned:
            key = ((name, sort, owned, owned), sent)
            found = self._sides.get(key)
            if found is not None:
                return found
        side = Side(key, owner)
        owner.sides.append(side)
        return side

    def _leave_side(self, side: Side) -> None:
        """Note that one query less waits on a side."""
        self.waiting -= 1
        side.size -= 1
        side.owner.size -= 1
        if not side.size and side is not self._emptied:
            self._remove_emptied()
            self._emptied = side

    def _remove_emptied(self) -> None:
        """Remove the side that was emptied last, unless a query waits there again, and those who have no other side."""
        side, self._emptied = self._emptied, None
        if side is None or side.size:
            return
        owner = side.owner
        host = owner.host
        del self._sides[side.key]
        owner.sides.remove(side)
        side.close()
        if not owner.sides:
            del self._owners[owner.key]
            host.owners -= 1
        if not host.owners:
            del self._hosts[host.name]
            host.close()

    def _repeat(self, query: Query, stamp: int) -> None:
        """Drop the sightings that are too old for another one; beyond MAX_SIGHTINGS evict the oldest."""
        query.waits = [wait for wait in query.waits if stamp - wait[0] <= WINDOW + REORDER]
        if len(query.waits) >= MAX_SIGHTINGS:
            del query.waits[0]
            self._note_evicted(query, stamp)

    def _drop_oldest(self, host: HostQueries, side: Side, stamp: int) -> None:
        """Drop a few old queries of the side of a host that asked longest ago, unless it is the one that asks."""
        oldest = host.sides.oldest()
        if oldest is not None and not oldest.size:
            self._remove_emptied()
            oldest = host.sides.oldest()
        if oldest is not None and oldest is not side:
            self._drop_old(oldest, stamp)

    def _drop_old(self, side: Side, stamp: int) -> None:
        """Drop a few queries of a side that are too old."""
        for _ in range(_STEPS):
            oldest = side.queries.oldest()
            if oldest is None or stamp - oldest.latest <= WINDOW + REORDER:
                return
            self._drop_unanswered(oldest)

    def _evict(self, side: Side, stamp: int) -> None:
        """Evict the query of a side that waits longest, and note the loss."""
        query = side.queries.first()
        self._note_evicted(query, stamp)
        self._drop(query)

    def _note_evicted(self, query: Query, stamp: int) -> None:
        self.counters["pending_full"] += 1
        self._doubts.note(query.party, stamp)


def may_answer(server: Address, servers: tuple[Address, ...]) -> bool:
    """Return whether a response may come from this source; nothing is compared where a side is unknown."""
    return server == ANY or server in servers or servers[0] == ANY


def servers_of(flow: Flow) -> tuple[Address, ...]:
    """Return the allowed sources of the response: the address that the process meant, then the packet's destination.

    Example, Docker's embedded DNS: the process sends to 127.0.0.11:53, the kernel redirects to 127.0.0.11:44932, and
    the response reaches the client's socket from 127.0.0.11:53 again. It is compared with the address that was meant.
    At the server's socket nothing is compared: its packets are captured after their source was rewritten.
    """
    if flow.socket and not flow.egress:
        return _ANY_SERVER
    port, meant_port = flow.destination_port, flow.meant_port
    sent, meant = address_of(flow.destination, port), flow.meant
    if not meant or (meant == flow.destination and (meant_port == port or not meant_port)):
        return (sent,)
    server = address_of(meant, meant_port or port)
    return (sent,) if server == sent else (server, sent)


def address_of(packed: bytes, port: int) -> Address:
    """Return an address and port in a form to compare: IPv4-mapped IPv6 becomes IPv4."""
    if len(packed) == 4:  # noqa: PLR2004 - most addresses are IPv4
        return packed, port
    return (packed.removeprefix(V4_MAPPED), port) if packed else ANY
