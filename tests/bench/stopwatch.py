"""The time of each call of a function, without the time of the clock itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Clock = Callable[[], int]  # in nanoseconds


def times(items: Iterable[T], call: Callable[[T], object], clock: Clock = time.thread_time_ns) -> list[float]:
    """Return the time of each call in microseconds, by default the CPU time of this thread; the results are freed."""
    samples, alone = [], cost_of(clock)
    for item in items:
        began = clock()
        call(item)
        samples.append((clock() - began - alone) / 1000)
    return samples


def cost_of(clock: Clock) -> int:
    """Return the time that two looks at a clock take."""
    return sorted(-clock() + clock() for _ in range(1000))[500]
