"""The TCP streams of all connections: bounded in number, bytes and time."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from dnstrail.captured import Captured, Flow
from dnstrail_probe.packets.tcp_direction import WINDOW, Direction, StreamOwners
from dnstrail_probe.packets.tcp_header import TcpHeader
from dnstrail_probe.packets.tcp_stream import Reader, Stream

MAX_STREAMS = 16384  #: TCP streams -> the least recently used of the owner with most is evicted: `tcp_evicted`
#: bytes of all TCP streams, with 256 for each segment behind a gap -> the least recently used stream of the owner with
#: most is evicted: `tcp_evicted`
MAX_BYTES = 32 << 20
IDLE = 300 * 10**9  # ns of the stream's time
#: ns to wait for a missing segment -> the gap is skipped: `tcp_gap`
PATIENCE = 5 * 10**9  # the duration of a few retransmissions
#: ns without a segment after which the ends of a TCP connection can open another -> an earlier segment is dropped:
#: `tcp_out_of_window`
REUSE = 60 * 10**9

T = TypeVar("T")
_Key = tuple[int, bool, bytes, int, bytes, int]
_Found = list[tuple[Captured, T]]


class Streams(Generic[T]):
    """The streams of one source, and their readers. Items that a reader finds have the context of their segment.

    Beyond a bound the longest idle stream of the owner with most is evicted and counted. Times come with the segments.
    `reader` makes the reader of a new stream; its argument is true if the start of the stream was seen. `evicted`
    counts evicted streams by cgroup.
    """

    def __init__(
        self, counters: Counter[str], reader: Callable[[bool], Reader[T]], *, evicted: Counter[int] | None = None
    ) -> None:
        self._counters = counters
        self._evicted = Counter[int]() if evicted is None else evicted
        self._reader = reader
        self._directions: OrderedDict[_Key, Direction[T]] = OrderedDict()  # the longest idle first
        self._waiting: OrderedDict[_Key, int] = OrderedDict()  # streams with a gap -> time of the gap
        self._owners: StreamOwners[_Key] = StreamOwners()
        self._now = 0
        self._held = 0

    def __len__(self) -> int:
        return len(self._directions)

    @property
    def held(self) -> int:
        """Bytes held by all streams."""
        return self._held

    def add(self, segment: Captured, flow: Flow, header: TcpHeader) -> _Found[T]:
        """Return the items that a segment completes; `segment` is their context, and has the data as its payload.

        A segment that the receiver would drop is counted and has no effect.
        """
        found = self.expire(segment.timestamp)
        key, back = _keys(flow)
        direction, other = self._directions.get(key), self._directions.get(back)
        arrives = flow.socket != 0 and not flow.egress
        if arrives and _is_dropped(direction, other, header, data=bool(segment.payload)):
            self._counters["tcp_not_read"] += 1
            return found
        if not _takes(direction, other, header, data=bool(segment.payload)):
            if not self._starts_anew([one for one in (direction, other) if one], header):
                self._counters["tcp_out_of_window"] += 1
                return found
            found += self._end(key) + self._end(back)
            direction = other = None
        if direction is None and (segment.payload or header.syn):
            stream = Stream(header.expected, self._reader(header.syn))
            direction = self._directions[key] = Direction(stream, segment, header)
        if direction is not None:
            if direction.stream.distance(header.first) + len(segment.payload) >= 0:  # else it was received before
                direction.unreadable |= header.urgent or (arrives and _is_too_old(other, header))
            found += self._advance(key, direction, segment, header)
        if other is not None:
            _note(direction, other, header)
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

    def _starts_anew(self, known: list[Direction[T]], header: TcpHeader) -> bool:
        """Return true if a segment that the known directions do not take belongs to a new connection.

        An open socket has no other; but if it expects this segment, those before were lost, and the stream begins anew.
        Where the socket is unknown, a SYN begins a connection after the end of the one before. After an idle time a SYN
        always does, and any segment does unless the connection before was seen from its start and not to its end.
        """
        if not known or header.distance is not None:
            return bool(known) and header.distance == 0 and not header.syn
        over = all(direction.closed for direction in known)
        idle = self._now - max(direction.seen for direction in known) > REUSE
        started = any(direction.started for direction in known)
        return (header.syn and over) or (idle and (header.syn or over or not started))

    def _advance(self, key: _Key, direction: Direction[T], segment: Captured, header: TcpHeader) -> _Found[T]:
        direction.context = msgspec.structs.replace(segment, payload=b"")
        direction.seen = self._now
        direction.closed |= header.fin or header.reset
        self._directions.move_to_end(key)
        self._owners.touch(direction.owner, key)
        if not segment.payload or direction.stream.reader.done:
            return []
        # Text behind a reset is for people: no receiver reads it (RFC 9293, section 3.5.3).
        if header.reset or direction.unreadable or (key[0] and not key[1] and header.syn and header.ack):
            self._counters["tcp_not_read"] += 1
            return []
        return self._take(key, direction, header.first, segment)

    def _take(self, key: _Key, direction: Direction[T], sequence: int, segment: Captured) -> _Found[T]:
        stream = direction.stream
        before = stream.held
        items, dropped = stream.add(sequence, segment.payload, segment.timestamp)
        self._hold(direction, stream.held - before)
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
        self._hold(direction, direction.stream.held - before)
        self._waiting.pop(key, None)
        self._note_waiting(key, direction.stream)
        return direction.found(items)

    def _note_waiting(self, key: _Key, stream: Stream[T]) -> None:
        if stream.waits:
            self._waiting.setdefault(key, self._now)
        else:
            self._waiting.pop(key, None)

    def _end(self, key: _Key) -> _Found[T]:
        """End a stream, if there is one; return the items that are complete after its gaps."""
        found: _Found[T] = []
        direction = self._directions.get(key)
        if direction is None:
            return found
        while direction.stream.waits:
            found += self._give_up_gap(key)
        if direction.stream.held:
            self._counters["tcp_incomplete"] += 1
        self._remove(key, direction)
        return found

    def _hold(self, direction: Direction[T], change: int) -> None:
        self._held += change
        self._owners.hold(direction.owner, change)

    def _remove(self, key: _Key, direction: Direction[T]) -> None:
        self._hold(direction, -direction.stream.held)
        self._waiting.pop(key, None)
        self._owners.remove(direction.owner, key)
        del self._directions[key]

    def _bound(self) -> None:
        """Evict streams beyond the bounds, with the bytes that they hold."""
        while len(self._directions) > MAX_STREAMS or self._held > MAX_BYTES:
            key = self._owners.longest_idle(of_bytes=self._held > MAX_BYTES)
            direction = self._directions[key]
            self._remove(key, direction)
            if not direction.stream.reader.done:
                self._counters["tcp_evicted"] += 1
                process = direction.context.process
                self._evicted[process.cgroup_id if process else 0] += 1


def _keys(flow: Flow) -> tuple[_Key, _Key]:
    """Return the keys of a direction and of the direction back. Without a socket, `egress` is never set."""
    source, destination = (flow.source, flow.source_port), (flow.destination, flow.destination_port)
    egress_back = not flow.egress if flow.socket else False
    return (flow.socket, flow.egress, *source, *destination), (flow.socket, egress_back, *destination, *source)


def _is_dropped(direction: Direction[T] | None, other: Direction[T] | None, header: TcpHeader, *, data: bool) -> bool:
    """Return true if Linux drops a segment that arrives: it has no ACK, or acknowledges what was not sent.

    Linux also drops `data` behind the end of the stream: they have no distance.
    """
    if header.syn or header.reset:
        return False
    if not header.ack or (data and direction is not None and direction.closed and header.distance is None):
        return True
    return other is not None and other.started and other.acknowledged(header) > other.stream.farthest + other.closed


def _is_too_old(other: Direction[T] | None, header: TcpHeader) -> bool:
    """Return true if a segment acknowledges what lies before the stream: Linux takes it or not."""
    return other is not None and other.started and header.ack and other.acknowledged(header) < other.stream.first - 1


def _takes(direction: Direction[T] | None, other: Direction[T] | None, header: TcpHeader, *, data: bool) -> bool:
    """Return true if the receiver takes a segment.

    The first of a direction acknowledges the other direction. If its socket is open, it is no SYN, and lies near the
    next byte that the socket expects.
    """
    if direction is not None:
        return direction.takes(header, data=data)
    if header.distance is not None and (header.syn or not -WINDOW <= header.distance < WINDOW):
        return False
    opens = header.syn and not header.ack
    return opens or other is None or not other.started or other.may_be_answered_by(header)


def _note(direction: Direction[T] | None, other: Direction[T], header: TcpHeader) -> None:
    """Note for the other direction what a segment states about it."""
    if direction is not None:
        other.note_window(header, direction)
    other.closed |= header.reset and (direction is not None or other.acknowledges(header))
