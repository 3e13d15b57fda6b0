"""One direction of a TCP connection: its bytes in order, whatever the order of its segments (RFC 9293, section 3.4)."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

MAX_AHEAD = 128 << 10  # bytes held behind a gap
MAX_PIECES = 512
_HALF, _ALL = 1 << 31, 1 << 32

T = TypeVar("T")


class Arrival(NamedTuple):
    """When a segment came: its number within the stream, and its time stamp in nanoseconds."""

    number: int
    timestamp: int


class Reader(Protocol[T]):
    """What reads a stream: it is given the bytes in order, and yields what it finds in them."""

    @property
    def held(self) -> int:
        """Bytes that it keeps until more come."""
        ...

    @property
    def done(self) -> bool:
        """Whether it wants nothing more of this stream."""
        ...

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, T]]:
        """What these bytes complete, each with the time stamp of the segment that completed it."""
        ...

    def skip(self) -> None:
        """Bytes are missing here."""
        ...


class _Piece(NamedTuple):
    position: int
    data: bytes
    arrival: Arrival

    @property
    def end(self) -> int:
        return self.position + len(self.data)


class Stream(Generic[T]):
    """The bytes from `first` on. Positions are sequence numbers that do not wrap around."""

    def __init__(self, first: int, reader: Reader[T]) -> None:
        self.first = first
        self.reader = reader
        self._next = first  # of all before it nothing is wanted any more
        self._ahead: list[_Piece] = []  # disjoint, in order
        self._ahead_bytes = 0
        self._arrivals = 0

    @property
    def held(self) -> int:
        """Bytes kept."""
        return self._ahead_bytes + self.reader.held

    @property
    def waits(self) -> bool:
        """Whether bytes are missing before others that have come."""
        return bool(self._ahead)

    @property
    def crowded(self) -> bool:
        """Whether more is kept behind a gap than is allowed."""
        return self._ahead_bytes > MAX_AHEAD or len(self._ahead) > MAX_PIECES

    def distance(self, sequence: int) -> int:
        """How far a sequence number lies ahead of the bytes wanted next; negative: behind."""
        return (sequence - self._next + _HALF) % _ALL - _HALF

    def add(self, sequence: int, data: bytes, timestamp: int) -> tuple[list[tuple[int, T]], str]:
        """What a segment completes; and what of it was not new, as a reason, or ""."""
        self._arrivals += 1
        start = self._next + self.distance(sequence)
        arrival = Arrival(self._arrivals, timestamp)
        if start == self._next and not self._ahead:
            self._next += len(data)
            return self.reader.take(data, arrival), ""
        fresh = self._fresh(_Piece(start, data, arrival))
        self._ahead = sorted(self._ahead + fresh)
        size = sum(len(piece.data) for piece in fresh)
        self._ahead_bytes += size
        known = "" if size == len(data) else "tcp_overlap" if size else "tcp_retransmission"
        return self._drain(), known

    def give_up_gap(self) -> list[tuple[int, T]]:
        """Go on behind the first gap."""
        self.reader.skip()
        self._next = self._ahead[0].position
        return self._drain()

    def _fresh(self, piece: _Piece) -> list[_Piece]:
        """The parts of a piece that are not known yet: of bytes that came twice the first ones count."""
        at, fresh = max(piece.position, self._next), []
        for known in self._ahead:
            if known.position >= piece.end:
                break
            if known.position > at:
                fresh.append(_part(piece, at, known.position))
            at = max(at, known.end)
        if at < piece.end:
            fresh.append(_part(piece, at, piece.end))
        return fresh

    def _drain(self) -> list[tuple[int, T]]:
        found: list[tuple[int, T]] = []
        drained = 0
        for piece in self._ahead:
            if piece.position != self._next:
                break
            self._next = piece.end
            drained += 1
            self._ahead_bytes -= len(piece.data)
            found += self.reader.take(piece.data, piece.arrival)
        del self._ahead[:drained]
        return found


def _part(piece: _Piece, start: int, end: int) -> _Piece:
    return _Piece(start, piece.data[start - piece.position : end - piece.position], piece.arrival)
