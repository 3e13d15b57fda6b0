"""The clock that workers receive; tests pass a clock of their own."""

from __future__ import annotations

import math
import time
from typing import Protocol

_SECOND = 1_000_000_000  # ns


class Clock(Protocol):
    """A source of wall time and of monotonic time."""

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return the seconds of a clock that never steps."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        ...


class SystemClock:
    """The clock of the host."""

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return the seconds of a clock that never steps."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        time.sleep(seconds)


def nanoseconds(seconds: float) -> int:
    """Return the last nanosecond of which a number of seconds is the nearest float.

    A float of seconds since the epoch names about 240 ns. A lookup with the time of an event therefore finds it.
    """
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * _SECOND // denominator + int(math.ulp(seconds) * _SECOND / 2)
