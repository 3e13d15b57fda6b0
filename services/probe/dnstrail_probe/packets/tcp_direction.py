"""One direction of a TCP connection, and the segments that its receiver takes (RFC 9293, section 3.10.7.4)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

import msgspec

from dnstrail.captured import Captured
from dnstrail_probe.packets.tcp_header import TcpHeader
from dnstrail_probe.packets.tcp_stream import Stream

K = TypeVar("K")
#: bytes ahead of a TCP stream, if the window of its receiver is not known -> the segment is dropped:
#: `tcp_out_of_window`
WINDOW = 1 << 20
T = TypeVar("T")


class StreamOwners(Generic[K]):
    """The streams of each owner, the longest idle first, and the bytes that they hold.

    An owner is the owner of a process's cgroup; streams of unknown processes have one owner, 0.
    """

    def __init__(self) -> None:
        self._streams: dict[int, OrderedDict[K, None]] = {}
        self._held: Counter[int] = Counter()

    def touch(self, owner: int, stream: K) -> None:
        """Note that a stream, which may be new, is the least idle of its owner."""
        streams = self._streams.setdefault(owner, OrderedDict())
        streams[stream] = None
        streams.move_to_end(stream)

    def hold(self, owner: int, change: int) -> None:
        """Note that the streams of an owner hold more bytes, or fewer."""
        self._held[owner] += change

    def remove(self, owner: int, stream: K) -> None:
        """Remove a stream, which holds no bytes any more."""
        del self._streams[owner][stream]
        if not self._streams[owner]:
            del self._streams[owner]
            del self._held[owner]

    def longest_idle(self, *, of_bytes: bool) -> K:
        """Return the longest idle stream of the owner with most streams, or with most bytes."""
        owner = max(self._streams, key=self._held.__getitem__ if of_bytes else self._count)
        return next(iter(self._streams[owner]))

    def _count(self, owner: int) -> int:
        return len(self._streams[owner])


def owner_of(segment: Captured) -> int:
    """Return the owner of a stream by one of its segments; 0 if it is unknown."""
    return (segment.process.owner or segment.process.cgroup_id) if segment.process else 0


class Direction(Generic[T]):
    """One stream, with the context and the time of its last segment, and the window of its receiver.

    The window is known if the SYN of both directions was seen. `edge` is the first position beyond it: it moves with
    the acknowledgments, and never back.
    """

    def __init__(self, stream: Stream[T], context: Captured, header: TcpHeader) -> None:
        self.stream = stream
        self.context = context
        self.owner = owner_of(context)
        self.seen = 0
        self.closed = False
        self.unreadable = False  # true once a byte was urgent
        self.started = header.syn  # true if the start of the stream was seen
        self.edge: int | None = None
        self._scale = header.scale  # of the windows that the sender of this direction states

    def found(self, items: list[tuple[int, T]]) -> list[tuple[Captured, T]]:
        """Return the items of the reader, each with its context."""
        return [(msgspec.structs.replace(self.context, timestamp=timestamp), item) for timestamp, item in items]

    def takes(self, header: TcpHeader, *, data: bool) -> bool:
        """Return true if the receiver takes a segment; a segment that continues the stream is always taken."""
        if header.syn and header.first != self.stream.first:
            return False
        if self.stream.reader.done:
            return True
        distance = self.stream.distance(header.first)
        if self.closed and not data:
            distance -= 1  # a FIN takes one number itself
        if header.reset:
            return distance in (0, -1)
        if not header.ack and not header.syn and self.started:
            return False
        room = WINDOW if self.edge is None else self.edge - self.stream.next
        return distance >= -WINDOW and (distance <= 0 or distance < room + (not data))

    def acknowledges(self, header: TcpHeader) -> bool:
        """Return true if a segment of the other direction acknowledges the SYN and no more than was sent."""
        ahead = self.stream.distance(header.acknowledged)
        return header.ack and self.stream.first <= self.stream.next + ahead <= self.stream.next + self.closed

    def may_be_answered_by(self, header: TcpHeader) -> bool:
        """Return true if a segment can be the first one of the other direction.

        The capture may lack bytes of this direction that a later segment acknowledges. A SYN or a reset is exact.
        """
        if header.syn or header.reset:
            return self.acknowledges(header)
        ahead = self.stream.distance(header.acknowledged)
        return header.ack and self.stream.first <= self.stream.next + ahead and ahead < WINDOW

    def acknowledged(self, header: TcpHeader) -> int:
        """Return the position in this direction that a segment of the other one acknowledges."""
        return self.stream.next + self.stream.distance(header.acknowledged)

    def note_window(self, header: TcpHeader, receiver: Direction[T]) -> None:
        """Move the window by an acknowledgment of the receiver."""
        if not header.ack or not self.started or not receiver.started:
            return
        scaled = not header.syn and self._scale is not None and receiver._scale is not None
        window = header.window << (receiver._scale or 0) if scaled else header.window
        edge = self.stream.next + self.stream.distance(header.acknowledged) + window
        self.edge = edge if self.edge is None else max(edge, self.edge)
