"""The connections and processes of open turns, which are applied when their turn has ended."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from dnstrail.captured import Captured

#: connections and processes that wait for the end of their turn -> all of the host that has most are applied at once:
#: `applied_early`
MAX_HELD = 8192


class HeldEvent(NamedTuple):
    """An event with its topic and its host, and its stamp on the clock of the stream."""

    stamp: int
    topic: str
    event: Captured
    host: str


class HeldEvents:
    """The events of each probe that wait for the end of their turn, within a bound. Who floods it pays alone."""

    def __init__(self) -> None:
        self._of: dict[str, list[HeldEvent]] = {}
        self._number = 0

    def add(self, start: str, event: HeldEvent) -> list[HeldEvent]:
        """Hold an event of a start. Return the events that must not wait any longer.

        Beyond the bound these are all events of the host that has most.
        """
        self._of.setdefault(start, []).append(event)
        self._number += 1
        if self._number <= MAX_HELD:
            return []
        held: Counter[str] = Counter()
        for events in self._of.values():
            held[events[0].host] += len(events)
        [(most, _)] = held.most_common(1)
        starts = [start for start, events in self._of.items() if events[0].host == most]
        return [early for start in starts for early in self.take(start)]

    def take(self, start: str) -> list[HeldEvent]:
        """Return the events of a start in the order of their stamps, and hold them no longer."""
        events = self._of.pop(start, [])
        self._number -= len(events)
        return sorted(events, key=lambda held: held.stamp)
