"""Parties, which lose events together, and the doubt that a loss casts on unmatched answers (docs/inside/image.md)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dnstrail.captured import Flow
from dnstrail.image.answer import CGROUP, Circumstances, PartyKey, ShareKey
from dnstrail.image.bounds import SECOND
from dnstrail.image.counts import Counts

SideKey = tuple[ShareKey, bool]  # a party; True: the queries that it sends, False: those that it receives
OwnerSide = tuple[PartyKey, bool]  # an owner; as above
DOUBT: Final = 30 * SECOND  #: ns of the doubt after a loss -> unmatched answers are rejected again
#: parties of one owner in doubt -> the owner is in doubt instead of the oldest: `evicted_doubts`
MAX_OF_OWNER: Final = 64
#: sides of owners and parties in doubt -> the host with most of them is in doubt instead: `evicted_doubts`
MAX_DOUBTS: Final = 16384
_NEVER: Final = -(1 << 61)


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
