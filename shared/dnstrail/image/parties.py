"""Parties, which lose events together, and the doubt that a loss casts on unmatched answers (docs/capture.md)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dnstrail.captured import Flow
from dnstrail.image.answer import CGROUP, Circumstances, PartyKey
from dnstrail.image.bounds import SECOND
from dnstrail.image.counts import Counts

SideKey = tuple[PartyKey, bool]  # a party; True: the queries that it sends, False: those that it receives
DOUBT: Final = 30 * SECOND
MAX_DOUBTS: Final = 16384  # sides of parties in doubt; beyond it all parties are in doubt instead of the oldest
_NEVER: Final = -(1 << 61)


def party_of(circumstances: Circumstances, flow: Flow | None) -> PartyKey:
    """Return the party of a packet's process: its cgroup, else its network namespace, else its host."""
    process, host = circumstances.process, circumstances.host
    if process is not None and process.cgroup_id:
        return (host, CGROUP, process.cgroup_id)
    if flow is not None and flow.namespace:
        return (host, "namespace", flow.namespace)
    return (host, "", 0)


class Doubts:
    """The parties in doubt: they lost events within the last 30 s. `counters` counts evictions.

    Beyond `most` hosts in doubt all hosts are.
    """

    def __init__(self, counters: Counts, most: int) -> None:
        self.counters = counters
        self._most = most
        self._hosts: dict[str, int] = {}  # the last loss of each host; "" stands for all hosts
        self._sides: OrderedDict[SideKey, int] = OrderedDict()

    def note_all(self, stamp: int, host: str = "") -> None:
        """Put all parties of a host in doubt, or all parties (host "")."""
        if host not in self._hosts and len(self._hosts) >= self._most:
            self._hosts = {name: last for name, last in self._hosts.items() if last + DOUBT >= stamp}
            host = host if len(self._hosts) < self._most else ""
        self._hosts[host] = max(stamp, self._hosts.get(host, _NEVER))

    def note(self, side: SideKey, stamp: int) -> None:
        """Put one side of a party in doubt. Beyond MAX_DOUBTS put all parties in doubt instead of the oldest."""
        self._sides[side] = max(stamp, self._sides.get(side, _NEVER))
        self._sides.move_to_end(side)
        oldest = next(iter(self._sides.values()))
        while oldest + DOUBT < stamp or len(self._sides) > MAX_DOUBTS:
            if oldest + DOUBT >= stamp:
                self.counters["evicted_doubts"] += 1
                self.note_all(oldest)
            self._sides.popitem(last=False)
            oldest = next(iter(self._sides.values()))

    def is_doubted(self, side: SideKey, stamp: int) -> bool:
        """Return whether a side of a party is in doubt at a stamp."""
        hosts = self._hosts
        last = max(hosts.get("", _NEVER), hosts.get(side[0][0], _NEVER), self._sides.get(side, _NEVER))
        return stamp - last <= DOUBT
