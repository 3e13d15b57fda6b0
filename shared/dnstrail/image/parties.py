"""Parties: the doubt that a loss casts on their unmatched answers, and their shares in the work of an image."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dnstrail.captured import Flow
from dnstrail.dns.header import HEADER, Header
from dnstrail.image.answer import CGROUP, Circumstances, PartyKey, ShareKey
from dnstrail.image.bounds import SECOND, Counts

SideKey = tuple[ShareKey, bool]  # a party; True: the queries that it sends, False: those that it receives
OwnerSide = tuple[PartyKey, bool]  # an owner; as above
DOUBT: Final = 30 * SECOND  #: ns of the doubt after a loss -> unmatched answers are rejected again
#: parties of one owner in doubt -> the owner is in doubt instead of the oldest: `evicted_doubts`
MAX_OF_OWNER: Final = 64
#: sides of owners and parties in doubt -> the host with most of them is in doubt instead: `evicted_doubts`
MAX_DOUBTS: Final = 16384
_NEVER: Final = -(1 << 61)
#: units of work in one second of the stream, while the cache is behind -> responses of an owner beyond its part are
#: skipped: `skipped_behind`
WORK: Final = 150_000  # a unit takes about a microsecond
LEAST: Final = WORK // 64  # units of any owner, also in a second in which all are used
MAX_SHARES: Final = 1024  # into which one share is divided; further parties have one together
_RECORD: Final = 3  # units
_ADMISSION: Final = 4  # units, which a skipped response costs, too
_UNIT: Final = 16  # bytes of one unit
_LEAST_RECORD: Final = 11  # bytes: the root, type, class, TTL and an empty RDATA
_Key = tuple[object, ...]
_FURTHER: Final[_Key] = ()


def share_of(circumstances: Circumstances, flow: Flow | None) -> ShareKey:
    """Return the party of a packet's process, with its owner."""
    process, host = circumstances.process, circumstances.host
    if process is not None and process.cgroup_id:
        return (host, CGROUP, process.cgroup_id, process.owner or process.cgroup_id)
    if flow is not None and flow.namespace:
        return (host, "namespace", flow.namespace, flow.namespace)
    return (host, "", 0, 0)


def party_of(circumstances: Circumstances, flow: Flow | None) -> PartyKey:
    """Return the party of a packet's process: its cgroup, else its network namespace, else its host."""
    host, sort, number, _ = share_of(circumstances, flow)
    return (host, sort, number)


def owner_of(circumstances: Circumstances, flow: Flow | None) -> PartyKey:
    """Return the owner of a packet's party: the owner of its cgroup, else its network namespace, else its host."""
    host, sort, _, owner = share_of(circumstances, flow)
    return (host, sort, owner)


class _OwnerDoubts:
    """The doubts of one side of an owner: `whole` is the last loss of all its parties, `last` the last one of any."""

    __slots__ = ("last", "parties", "whole")

    def __init__(self) -> None:
        self.whole = self.last = _NEVER
        self.parties: OrderedDict[int, int] = (
            OrderedDict()
        )  # the last loss of each party, the one noted last at the end


class Doubts:
    """The parties in doubt: they lost events within the last 30 s. `counters` counts evictions.

    Beyond a bound the doubts of parties become one of their owner, and at last one of their host, but never one of
    anybody else.

    Beyond `most` hosts in doubt all hosts are.
    """

    def __init__(self, counters: Counts, most: int) -> None:
        self.counters = counters
        self._most = most
        self._hosts: dict[str, int] = {}  # the last loss of each host; "" stands for all hosts
        self._owners: OrderedDict[OwnerSide, _OwnerDoubts] = OrderedDict()  # the owner noted last at the end
        self._held = 0  # owners and parties

    def note_all(self, stamp: int, host: str = "") -> None:
        """Put all parties of a host in doubt, or all parties (host "")."""
        if host not in self._hosts and len(self._hosts) >= self._most:
            self._hosts = {name: last for name, last in self._hosts.items() if last + DOUBT >= stamp}
            host = host if len(self._hosts) < self._most else ""
        self._hosts[host] = max(stamp, self._hosts.get(host, _NEVER))

    def note_owner(self, side: OwnerSide, stamp: int) -> None:
        """Put one side of all parties of an owner in doubt."""
        doubts = self._of(side, stamp)
        doubts.whole = max(stamp, doubts.whole)

    def note(self, side: SideKey, stamp: int) -> None:
        """Put one side of a party in doubt. Beyond MAX_OF_OWNER put its owner in doubt instead of the oldest."""
        (host, sort, number, owner), sent = side
        doubts = self._of(((host, sort, owner), sent), stamp)
        parties = doubts.parties
        self._held += number not in parties
        parties[number] = max(stamp, parties.get(number, _NEVER))
        parties.move_to_end(number)
        oldest = next(iter(parties.values()))
        while oldest + DOUBT < stamp or len(parties) > MAX_OF_OWNER:
            if oldest + DOUBT >= stamp:
                self.counters["evicted_doubts"] += 1
                doubts.whole = max(oldest, doubts.whole)
            parties.popitem(last=False)
            self._held -= 1
            oldest = next(iter(parties.values()))

    def is_doubted(self, side: SideKey, stamp: int) -> bool:
        """Return whether a side of a party is in doubt at a stamp."""
        (host, sort, number, owner), sent = side
        last = max(self._hosts.get("", _NEVER), self._hosts.get(host, _NEVER))
        for key in (owner, number):  # the owner may not have been known when the party lost events
            doubts = self._owners.get(((host, sort, key), sent))
            if doubts is not None:
                last = max(last, doubts.whole, doubts.parties.get(number, _NEVER))
        return stamp - last <= DOUBT

    def _of(self, side: OwnerSide, stamp: int) -> _OwnerDoubts:
        """Return the doubts of an owner, to which a loss is added; drop those that are over."""
        if self._held >= MAX_DOUBTS:
            self._evict(stamp)
        doubts = self._owners.get(side)
        if doubts is None:
            doubts = self._owners[side] = _OwnerDoubts()
            self._held += 1
        self._owners.move_to_end(side)
        doubts.last = max(stamp, doubts.last)
        oldest = next(iter(self._owners))
        while self._owners[oldest].last + DOUBT < stamp:
            self._drop(oldest)
            oldest = next(iter(self._owners))
        return doubts

    def _evict(self, stamp: int) -> None:
        """Put the host with most doubts in doubt, and drop these."""
        of_host = Counts()
        for ((host, _, _), _), doubts in self._owners.items():
            of_host[host] += len(doubts.parties) + 1
        host = max(of_host, key=of_host.__getitem__)
        self.note_all(stamp, host)
        for side in [side for side in self._owners if side[0][0] == host]:
            self.counters["evicted_doubts"] += len(self._owners[side].parties) + 1
            self._drop(side)

    def _drop(self, side: OwnerSide) -> None:
        self._held -= len(self._owners.pop(side).parties) + 1


def cost_of(header: Header, size: int) -> int:
    """Return the cost of a response of this size, with a question: units for its records and bytes.

    It is counted before anything behind the question is read, and is the same in every cache. The work that a skipped
    response needs, too, costs nothing.
    """
    records = min(header.answer_count, (size - HEADER) // _LEAST_RECORD)
    return max(_RECORD * records + size // _UNIT - _ADMISSION, 1)


class _Share:
    """The work of one second that belongs to one share, and the shares into which it is divided."""

    __slots__ = ("before", "parts", "work")

    def __init__(self, before: _Share | None = None) -> None:
        self.work = 0
        self.parts: dict[_Key, _Share] = {}
        self.before = before  # the same share in the second before
        if before is not None:
            before.before = None

    @property
    def number(self) -> int:
        """The number of shares into which this one is divided: those of this second, or of the second before."""
        return max(len(self.parts), 0 if self.before is None else len(self.before.parts))

    def part(self, key: _Key) -> _Share:
        """Return the share of a key, and divide this one anew for a new key."""
        found = self.parts.get(key)
        if found is None and len(self.parts) >= MAX_SHARES:
            key = _FURTHER
            found = self.parts.get(key)
        if found is None:
            found = self.parts[key] = _Share(None if self.before is None else self.before.parts.get(key))
        return found


class WorkShares:
    """The work of the present second of the stream, by owner and party.

    A second has WORK units. They are divided equally among the kinds of owners of each host, a kind among its owners,
    and an owner among its parties. An owner that comes when all are used has LEAST, as long as its kind does not use
    twice its share. Stamps (ns) come with the responses; a late one counts for the present second.
    """

    def __init__(self) -> None:
        self._second = _NEVER
        self._all = _Share()

    def is_beyond(self, stamp: int, owner: PartyKey, party: PartyKey, cost: int) -> bool:
        """Return whether a response of this cost is beyond the part of its party; count it if not."""
        second = stamp // SECOND
        if second > self._second:
            self._all = _Share(self._all if second == self._second + 1 else None)
            self._second = second
        kind = self._all.part(owner[:2])
        holder = kind.part(owner)
        mine = holder.part(party)
        whole = WORK // self._all.number
        if kind.work < whole:
            beyond = mine.work + cost > whole // (kind.number * holder.number)
        else:
            beyond = holder.work + cost > LEAST or kind.work >= 2 * whole
        if beyond:
            return True
        kind.work += cost
        holder.work += cost
        mine.work += cost
        return False
