"""The batches of the last ten seconds, from which a worker handles what a departed member did not."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

#: seconds for which a signature worker keeps batches for a takeover -> later owners ask the probe for them
KEPT = 10.0
MAX_BYTES = 32 << 20  #: bytes of the batches that a signature worker keeps -> the oldest is dropped: `buffer_overflow`
_OVERHEAD = 256  # bytes of an entry besides its body


class Received(NamedTuple):
    """A batch as it was received, at a monotonic time."""

    at: float
    topic: str
    start: str
    turn: int
    body: bytes


class RecentBatches:
    """The batches that were received last, in their order; bounded in time and in bytes.

    `counters` has `buffer_overflow`: batches that were dropped for their bytes, before their time.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._batches: deque[Received] = deque()
        self._bytes = 0
        self._first: dict[str, int] = {}  # by start: the first turn that is held whole

    def __iter__(self) -> Iterator[Received]:
        return iter([*self._batches])

    def add(self, received: Received) -> None:
        """Add a batch, and drop those that are too old or too much."""
        self.begin(received.start, received.turn)
        self._batches.append(received)
        self._bytes += _size(received)
        self.expire(received.at)
        while self._bytes > MAX_BYTES:
            self.counters["buffer_overflow"] += 1
            self._drop()

    def clear(self) -> None:
        """Drop all batches: they were handled for another group."""
        self._batches.clear()
        self._bytes = 0
        self._first.clear()

    def begin(self, start: str, turn: int) -> None:
        """Note the first turn of a start that is received."""
        self._first.setdefault(start, turn)

    def forget(self, start: str) -> None:
        """Drop what is held of a start that is followed no more."""
        self._first.pop(start, None)
        self._batches = deque(each for each in self._batches if each.start != start)
        self._bytes = sum(map(_size, self._batches))

    def expire(self, now: float) -> None:
        """Drop the batches that are too old."""
        while self._batches and self._batches[0].at <= now - KEPT:
            self._drop()

    def first(self, start: str) -> int:
        """Return the first turn of a start that is held."""
        return self._first.get(start, 0)

    def _drop(self) -> None:
        dropped = self._batches.popleft()
        self._bytes -= _size(dropped)
        if dropped.start in self._first:
            self._first[dropped.start] = dropped.turn + 1


def _size(received: Received) -> int:
    return len(received.body) + _OVERHEAD
