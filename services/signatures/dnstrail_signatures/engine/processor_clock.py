"""The processor time of a thread, without a system call for each look at it."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_EVERY = 0.001  # seconds


class ProcessorClock:
    """The processor time of this thread, up to a millisecond ahead of it.

    The kernel is asked once in LOOK_EVERY. In between, each second that passes counts as one of the processor. A
    measurement that ends more than LOOK_EVERY after the last look is thus wrong by less than LOOK_EVERY, however long
    the thread has waited.
    """

    def __init__(
        self,
        processor: Callable[[], float] = time.thread_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processor = processor
        self._monotonic = monotonic
        self._due = self._last = float("-inf")
        self._ahead = 0.0

    def seconds(self) -> float:
        """Return the processor time. It never steps back: after a wait it stands still for a moment."""
        now = self._monotonic()
        if now >= self._due:
            self._ahead = self._processor() - now
            self._due = now + LOOK_EVERY
        processor = now + self._ahead
        if processor > self._last:
            self._last = processor
        return self._last
