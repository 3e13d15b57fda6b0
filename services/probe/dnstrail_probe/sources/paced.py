"""A capture file played at its own pace, or at a multiple of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dnstrail.captured import Captured
from dnstrail.errors import SettingsError
from dnstrail.process.clock import Clock
from dnstrail_probe.source import Captures, Source


class PacedSource:
    """A source that yields each event of another source when it is due.

    Invariant: an event is due at its distance from the first event, divided by `speed`; the order is that of the inner
    source. `sleep(seconds)` may return early.

    Raises:
        SettingsError: the speed is not positive.
    """

    live = False
    descriptor = None
    lost_by_cgroup = ()

    def __init__(self, source: Source, clock: Clock, speed: float, sleep: Callable[[float], object]) -> None:
        if not speed > 0:
            raise SettingsError(f"--speed {speed:g} is not positive")
        self.name = f"{source.name} at speed {speed:g}"
        self.counters, self.losses, self.capabilities = source.counters, source.losses, source.capabilities
        self._source = source
        self._clock = clock
        self._speed = speed
        self._sleep = sleep
        self._held: deque[tuple[str, Captured]] = deque()
        self._ended = False
        self._origin: tuple[float, int] | None = None

    @property
    def damage(self) -> str:
        """The damage of the inner source."""
        return self._source.damage

    def read(self, timeout: float) -> Captures | None:
        """Return the events that are due, after waiting for the next one at most `timeout` seconds."""
        if not self._held and not self._ended:
            captured = self._source.read(timeout)
            self._ended = captured is None
            self._held = deque(captured or ())
        if not self._held:
            return None if self._ended else []
        wait = self._due_in(self._held[0][1].timestamp)
        if wait > 0:
            self._sleep(min(wait, timeout))
        due: Captures = []
        while self._held and self._due_in(self._held[0][1].timestamp) <= 0:
            due.append(self._held.popleft())
        return due

    def close(self) -> None:
        """Close the inner source."""
        self._source.close()

    def _due_in(self, timestamp: int) -> float:
        """Return the seconds until an event is due; the first event is due at once."""
        now = self._clock.monotonic()
        if self._origin is None:
            self._origin = (now, timestamp)
        began, first = self._origin
        return began + (timestamp - first) / 1e9 / self._speed - now
