"""The times of each start of a probe: of its events in a file, and how far its events were handled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from dnstrail.captured import LAST_TIME
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.listener import SILENCE

_SECOND = 1_000_000_000


class StreamTimes:
    """The greatest time stamp so far of each start of a probe (ns)."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}

    def of(self, start: str, stamps: Iterable[int]) -> list[int]:
        """Return for each of the next stamps the greatest one until then."""
        times = list(accumulate(stamps, max, initial=self._latest.get(start, 0)))
        self._latest[start] = times[-1]
        return times[1:]

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._latest.pop(start, None)


class ProbeClocks:
    """The clock of each live start at its last turn, and when this turn was handled (s, monotonic)."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def turn(self, turn: Turn, now: float) -> int:
        """Note a turn that was handled; return the time of its start: the last time of all at its end."""
        if turn.ended or not turn.live:
            self._last.pop(turn.start, None)
        else:
            self._last[turn.start] = turn.now, now
        return LAST_TIME if turn.ended else turn.now

    def silent(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield the live starts of which nothing was received for a while although nothing waits, and their times."""
        for start, (clock, heard) in self._last.items():
            if now - heard > SILENCE:
                yield start, clock + round((now - heard) * _SECOND)

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._last.pop(start, None)
