"""The connections and processes of open turns, which are applied when their turn has ended."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.captured import Captured

MAX_HELD = 8192  # events of all turns; with more, all are applied early


class HeldEvent(NamedTuple):
    """An event with its topic and its host, and its stamp on the clock of the stream."""

    stamp: int
    topic: str
    event: Captured
    host: str


class HeldEvents:
    """The events of each probe that wait for the end of their turn, within a bound."""

    def __init__(self) -> None:
        self._of: dict[str, list[HeldEvent]] = {}

    def add(self, start: str, event: HeldEvent) -> list[HeldEvent]:
        """Hold an event of a start. Return the events that must not wait any longer: all, beyond the bound."""
        self._of.setdefault(start, []).append(event)
        if sum(map(len, self._of.values())) <= MAX_HELD:
            return []
        return [held for other in [*self._of] for held in self.take(other)]

    def take(self, start: str) -> list[HeldEvent]:
        """Return the events of a start in the order of their stamps, and hold them no longer."""
        return sorted(self._of.pop(start, ()), key=lambda held: held.stamp)
