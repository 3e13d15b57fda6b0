"""The TCP streams of all connections: bounded in number, bytes and time."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from dnstrail.captured import Captured, Flow
from dnstrail_probe.packets.tcp_stream import Reader, Stream

MAX_STREAMS = 16384
MAX_BYTES = 32 << 20  # held for all streams
IDLE = 300 * 10**9  # ns of the stream's time
PATIENCE = 5 * 10**9  # ns for a missing segment: the duration of a few retransmissions
WINDOW = 1 << 20  # a segment further off belongs to another connection

T = TypeVar("T")
_Key = tuple[int, bool, bytes, int, bytes, int]
_Found = list[tuple[Captured, T]]


class _Direction(Generic[T]):
    """One stream, with the context and the time of its last segment."""

    def __init__(self, stream: Stream[T], context: Captured) -> None:
        self.stream = stream
        self.context = context
        self.seen = 0

    def found(self, items: list[tuple[int, T]]) -> _Found[T]:
        return [(msgspec.structs.replace(self.context, timestamp=timestamp), item) for timestamp, item in items]


class Streams(Generic[T]):
    """The streams of one source, and their readers. Items that a reader finds have the context of their segment.

    Beyond a bound the stream that was idle for longest is evicted and counted. Times come with the segments. `reader`
    makes the reader of a new stream; its argument is true if the start of the stream was seen.
    """

    def __init__(self, counters: Counter[str], reader: Callable[[bool], Reader[T]]) -> None:
        self._counters = counters
        self._reader = reader
        self._directions: OrderedDict[_Key, _Direction[T]] = OrderedDict()  # the longest idle first
        self._waiting: OrderedDict[_Key, int] = OrderedDict()  # streams with a gap -> time of the gap
        self._now = 0
        self._held = 0

    def __len__(self) -> int:
        return len(self._directions)

    @property
    def held(self) -> int:
        """Bytes held by all streams."""
        return self._held

    def add(self, segment: Captured, flow: Flow, sequence: int, *, syn: bool = False) -> _Found[T]:
        """Return the items that a segment completes; `segment` is their context, and has the data as its payload."""
        found = self.expire(segment.timestamp)
        key = (flow.socket, flow.egress, flow.source, flow.source_port, flow.destination, flow.destination_port)
        if syn:
            sequence = (sequence + 1) & 0xFFFFFFFF
        direction = self._directions.get(key)
        if direction is not None and _starts_anew(direction.stream, sequence, syn=syn):
            found += self._end(key)
            direction = None
        if direction is None:
            direction = self._directions[key] = _Direction(Stream(sequence, self._reader(syn)), segment)
        direction.context = msgspec.structs.replace(segment, payload=b"")
        direction.seen = self._now
        self._directions.move_to_end(key)
        if segment.payload and not direction.stream.reader.done:
            found += self._take(key, direction, sequence, segment)
        self._bound()
        return found

    def expire(self, now: int) -> _Found[T]:
        """Give up gaps and streams that have waited too long; return the items completed by that."""
        self._now = max(self._now, now)
        found: _Found[T] = []
        while self._waiting:
            key, since = next(iter(self._waiting.items()))
            if self._now - since <= PATIENCE:
                break
            found += self._give_up_gap(key)
        while self._directions:
            key, direction = next(iter(self._directions.items()))
            if self._now - direction.seen <= IDLE:
                break
            found += self._end(key)
        return found

    def finish(self) -> _Found[T]:
        """End all streams; return the items that are complete after gaps."""
        found: _Found[T] = []
        while self._directions:
            found += self._end(next(iter(self._directions)))
        return found

    def _take(self, key: _Key, direction: _Direction[T], sequence: int, segment: Captured) -> _Found[T]:
        stream = direction.stream
        before = stream.held
        items, dropped = stream.add(sequence, segment.payload, segment.timestamp)
        self._held += stream.held - before
        if dropped:
            self._counters[dropped] += 1
        found = direction.found(items)
        while stream.crowded:
            found += self._give_up_gap(key)
        self._note_waiting(key, stream)
        return found

    def _give_up_gap(self, key: _Key) -> _Found[T]:
        direction = self._directions[key]
        before = direction.stream.held
        self._counters["tcp_gap"] += 1
        items = direction.stream.give_up_gap()
        self._held += direction.stream.held - before
        self._waiting.pop(key, None)
        self._note_waiting(key, direction.stream)
        return direction.found(items)

    def _note_waiting(self, key: _Key, stream: Stream[T]) -> None:
        if stream.waits:
            self._waiting.setdefault(key, self._now)
        else:
            self._waiting.pop(key, None)

    def _end(self, key: _Key) -> _Found[T]:
        """End a stream; return the items that are complete after its gaps."""
        found: _Found[T] = []
        direction = self._directions[key]
        while direction.stream.waits:
            found += self._give_up_gap(key)
        if direction.stream.held:
            self._counters["tcp_incomplete"] += 1
        self._held -= direction.stream.held
        del self._directions[key]
        return found

    def _bound(self) -> None:
        """Evict the longest idle streams beyond the bounds, with the bytes that they hold."""
        while len(self._directions) > MAX_STREAMS or self._held > MAX_BYTES:
            key, direction = self._directions.popitem(last=False)
            self._waiting.pop(key, None)
            self._held -= direction.stream.held
            if not direction.stream.reader.done:
                self._counters["tcp_evicted"] += 1


def _starts_anew(stream: Stream[T], sequence: int, *, syn: bool) -> bool:
    """Return true if a segment belongs to a new connection between the same addresses and ports."""
    if syn:
        return stream.first != sequence
    return not stream.reader.done and abs(stream.distance(sequence)) > WINDOW
