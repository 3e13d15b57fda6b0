"""The clocks that workers receive; tests pass a clock of their own."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

_SECOND = 1_000_000_000  # ns
_MICROSECOND = 1_000  # ns
_MICROSECONDS = 1_000_000  # of a second
_LEAST_MILLISECONDS = 1e11  # a smaller time since the epoch is in seconds
_LEAST_MICROSECONDS = 1e14
_LEAST_NANOSECONDS = 1e17
_GRAIN = 1_000_000  # ns: a smaller step cannot be told from the time that a reading takes
_DELAY = 10_000_000_000  # ns after a step for which stamps from before it may still arrive
_READINGS = 3  # of both clocks, of which the shortest counts
_FRACTION = re.compile(r"[.,](\d{1,5})(?!\d)", re.ASCII)  # a lookup reads more digits to the end of their microsecond
_BEYOND = re.compile(r"(?<=\.\d{6})\d+", re.ASCII)  # digits below the microsecond
_DOUBLE = re.compile(r"\d+\.\d{4,7}", re.ASCII)  # seconds as JSON has them, which are rounded up or down
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4)


class Clock(Protocol):
    """A source of wall time and of monotonic time."""

    def wall(self) -> float:
        """Return the seconds since the epoch."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never steps."""

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""


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
    """Return the end of the microsecond that a number of seconds names.

    A float of seconds since the epoch names a grain of about 240 ns, and people write times to the microsecond. A time
    that was divided from nanoseconds as a float is rounded twice, and may lie a little more than a grain too early. It
    is not before the time that is returned. A lookup with the time of an event therefore finds it.
    """
    number, parts = seconds.as_integer_ratio()
    grain, grains = math.ulp(seconds).as_integer_ratio()
    first, whole = 4 * number * grains, 4 * parts * grains
    microseconds = (first + 2 * grain * parts) * _MICROSECONDS // whole
    return max((microseconds + 1) * _MICROSECOND - 1, (first + 5 * grain * parts) * _SECOND // whole)


def decimal_places(number: float) -> int:
    """Return how many digits of a whole number of time since the epoch are a fraction of a second, by its size.

    They are 0 for seconds, 3 for milliseconds, 6 for microseconds and 9 for nanoseconds.
    """
    if number < _LEAST_MILLISECONDS:
        return 0
    if number < _LEAST_MICROSECONDS:
        return 3
    return 6 if number < _LEAST_NANOSECONDS else 9


def boot_id() -> str:
    """Return the id of this run of the kernel, which all its containers share; "" if it is unknown."""
    with suppress(OSError, ValueError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""


_SYSTEM = SystemClock()


class StreamClock:
    """The clock of a live source, in ns since the epoch: the wall time at its creation, plus the time since then.

    Invariant: it never steps, whatever happens to the wall clock. It stands still while the host is suspended. `epoch`
    is the distance of the monotonic clock from the epoch: `epoch` plus a monotonic time is a time of this clock.
    """

    def __init__(self, clock: Clock = _SYSTEM) -> None:
        self.clock = clock
        self.epoch = _distance(clock)
        self._difference = 0
        self._earlier = 0  # the difference before the last step
        self._stepped = 0  # the time of the last step

    def now(self) -> int:
        """Return the present time of this clock."""
        return self.epoch + _rounded(self.clock.monotonic())

    def difference(self) -> int:
        """Return wall time minus the time of this clock. It changes only when the wall clock steps."""
        before = self.now()
        wall = _rounded(self.clock.wall())
        after = self.now()
        if not wall - after - _GRAIN <= self._difference <= wall - before + _GRAIN:
            self._earlier, self._difference, self._stepped = self._difference, _distance(self.clock) - self.epoch, after
        return self._difference

    def from_wall(self, shown: Iterable[int]) -> list[int]:
        """Return the times of this clock at which the wall clock showed some times, in ns since the epoch.

        Shortly after a step the wall clock may have shown a time before the step, after it, or both. The later of these
        moments that has passed counts. A result is ahead of `now` if none has passed.
        """
        present, now = self.difference(), self.now()
        if now - self._stepped >= _DELAY:
            return [wall - present for wall in shown]
        moments = [(wall - present, wall - self._earlier) for wall in shown]
        return [max((moment for moment in both if moment <= now + _GRAIN), default=both[0]) for both in moments]


def _distance(clock: Clock) -> int:
    """Return wall time minus monotonic time, by the reading of both clocks that took the least time."""
    readings = []
    for _ in range(_READINGS):
        before, wall, after = _rounded(clock.monotonic()), _rounded(clock.wall()), _rounded(clock.monotonic())
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]


def _rounded(seconds: float) -> int:
    return round(seconds * 1e9)


def read_moment(text: str, *, is_begin: bool) -> float | None:
    """Return the time that a text means as a begin or as an end, as `parse_moment` does; None if it is no time.

    A time with a fraction of a second stands for all of its last digit: a begin begins with it, and an end ends with
    it. A lookup with the time of an event, which a table cuts to the millisecond, therefore finds it. A number is in
    seconds, milliseconds, microseconds or nanoseconds, by its size. A begin in seconds with four to seven digits may
    be a time that was rounded up: it begins 240 ns earlier, with the microsecond of this time.
    """
    seconds = _in_seconds(text)
    if is_begin:
        if _DOUBLE.fullmatch(text):
            seconds = f"{math.nextafter(float(text), 0):.9f}"
        return parse_moment(_BEYOND.sub("", seconds))
    moment = parse_moment(seconds)
    return None if moment is None else end_of_digit(moment, seconds)


def end_of_digit(moment: float, text: str) -> float:
    """Return the last microsecond for which the last digit of a text stands; a whole second stands for itself.

    `moment` is the time of the text in epoch seconds.
    """
    fraction = _FRACTION.search(text)
    if fraction is None:
        return moment
    grain: int = 10 ** (6 - len(fraction[1]))
    return (round(moment * _MICROSECONDS) + grain - 1) / _MICROSECONDS


def _in_seconds(text: str) -> str:
    """Return a number as one of seconds without an exponent, and another text as it is."""
    try:
        number = abs(float(text))
    except ValueError:
        return text
    if not 0 < number < math.inf:
        return text
    from decimal import Decimal  # noqa: PLC0415 - few processes read times

    return f"{Decimal(text).scaleb(-decimal_places(number)):f}"


def parse_moment(value: object) -> float | None:
    """Return a time as epoch seconds, from a number or RFC 3339 (without an offset: UTC); None if it is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        moment = float(value)
    except (ValueError, OverflowError):
        moment = _rfc3339(str(value))
    return moment if math.isfinite(moment) else None


def _rfc3339(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
