"""A capture file played at its own pace, or a multiple of it."""

from __future__ import annotations

import time
from collections import Counter, deque

from dnstrail.captured import Captured
from dnstrail.errors import SettingsError
from dnstrail.process.clock import Clock
from dnstrail_probe.source import Captures, Source


class PacedSource:
    """Gives each event of a source when its time has come, counted from the first one."""

    live = False

    def __init__(self, source: Source, clock: Clock, speed: float) -> None:
        if not speed > 0:
            raise SettingsError(f"speed {speed:g} is no positive number")
        self.name = f"{source.name} at speed {speed:g}"
        self.counters: Counter[str] = source.counters
        self._source = source
        self._clock = clock
        self._speed = speed
        self._held: deque[tuple[str, Captured]] = deque()
        self._ended = False
        self._origin: tuple[float, int] | None = None

    def read(self, timeout: float) -> Captures | None:
        """The events that are due; what is due later is waited for, `timeout` seconds at most."""
        if not self._held and not self._ended:
            captured = self._source.read(timeout)
            self._ended = captured is None
            self._held = deque(captured or ())
        if not self._held:
            return None if self._ended else []
        wait = self._due_in(self._held[0][1].timestamp)
        if wait > 0:
            time.sleep(min(wait, timeout))
        due: Captures = []
        while self._held and self._due_in(self._held[0][1].timestamp) <= 0:
            due.append(self._held.popleft())
        return due

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _due_in(self, timestamp: int) -> float:
        """Seconds until an event is due; the first one is at once."""
        now = self._clock.monotonic()
        if self._origin is None:
            self._origin = (now, timestamp)
        began, first = self._origin
        return began + (timestamp - first) / 1e9 / self._speed - now
