"""Parties: what loses events together, and the doubt that a loss casts on unmatched answers (docs/capture.md)."""

from __future__ import annotations

from collections import Counter, OrderedDict

from dnstrail.captured import Flow
from dnstrail.image.answer import Circumstances
from dnstrail.image.bounds import SECOND

PartyKey = tuple[object, ...]
Side = tuple[PartyKey, bool]  # a party; True: the queries that it sends, False: those that it receives
DOUBT = 30 * SECOND
MAX_DOUBTS = 16384
_NEVER = -(1 << 61)


def party_of(circumstances: Circumstances, flow: Flow | None) -> PartyKey:
    """Return what a packet's process loses events with: its cgroup, else its network namespace, else its host."""
    process, host = circumstances.process, circumstances.host
    if process is not None and process.cgroup_id:
        return (host, "cgroup", process.cgroup_id)
    if flow is not None and flow.namespace:
        return (host, "namespace", flow.namespace)
    return (host,)


class Doubts:
    """The parties that lost events within the last 30 s. The first stamp of all counts as a loss of all parties."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._all = _NEVER
        self._sides: OrderedDict[Side, int] = OrderedDict()

    def note_all(self, stamp: int) -> None:
        """Put all parties in doubt."""
        self._all = max(self._all, stamp)

    def note(self, side: Side, stamp: int) -> None:
        """Put one side of a party in doubt; beyond MAX_DOUBTS all parties are."""
        self._sides[side] = max(stamp, self._sides.get(side, _NEVER))
        self._sides.move_to_end(side)
        oldest = next(iter(self._sides.values()))
        while oldest + DOUBT < stamp or len(self._sides) > MAX_DOUBTS:
            if oldest + DOUBT >= stamp:
                self.counters["evicted_doubts"] += 1
                self.note_all(oldest)
            self._sides.popitem(last=False)
            oldest = next(iter(self._sides.values()))

    def is_doubted(self, side: Side, stamp: int) -> bool:
        """Return whether a side of a party is in doubt at a stamp."""
        if self._all == _NEVER:
            self._all = stamp
        return stamp - self._all <= DOUBT or stamp - self._sides.get(side, _NEVER) <= DOUBT
