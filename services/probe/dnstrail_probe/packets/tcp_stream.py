"""Puts the bytes of one direction of a TCP connection in order (RFC 9293, section 3.4)."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

MAX_AHEAD = 128 << 10  # bytes held after a gap
MAX_PIECES = 512
OVERHEAD = 256  # bytes of memory for a piece, beside its data
_HALF, _ALL = 1 << 31, 1 << 32

T = TypeVar("T")


class Arrival(NamedTuple):
    """The arrival of a segment: its number within the stream, and its time stamp in ns."""

    number: int
    timestamp: int


class Reader(Protocol[T]):
    """The reader of one stream: takes its bytes in order, and returns the items that it finds in them."""

    @property
    def held(self) -> int:
        """Bytes that it holds until more arrive."""
        ...

    @property
    def done(self) -> bool:
        """True if it needs no more bytes of this stream."""
        ...

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, T]]:
        """Return the items that these bytes complete, each with the time stamp of the segment that completed it."""
        ...

    def skip(self) -> None:
        """Note that bytes are missing here."""
        ...


class _Piece(NamedTuple):
    position: int
    data: bytes
    arrival: Arrival

    @property
    def end(self) -> int:
        return self.position + len(self.data)


class Stream(Generic[T]):
    """The bytes of a stream from `first` on, in order: each byte reaches the reader once.

    Positions are sequence numbers that do not wrap around. Segments after a gap are held until the gap is filled or
    given up. Of bytes that arrive twice, those count that begin at the next expected byte, as in the kernel; else those
    that arrived first.
    """

    def __init__(self, first: int, reader: Reader[T]) -> None:
        self.first = first
        self.reader = reader
        self._next = first  # bytes before it are dropped
        self._ahead: list[_Piece] = []  # disjoint, in order
        self._ahead_bytes = 0
        self._arrivals = 0

    @property
    def held(self) -> int:
        """Bytes held here, overhead included, and by the reader."""
        return self._ahead_bytes + OVERHEAD * len(self._ahead) + self.reader.held

    @property
    def waits(self) -> bool:
        """True if segments wait after a gap."""
        return bool(self._ahead)

    @property
    def next(self) -> int:
        """The position of the next expected byte."""
        return self._next

    @property
    def crowded(self) -> bool:
        """True if more is held after a gap than the bounds allow."""
        return self._ahead_bytes > MAX_AHEAD or len(self._ahead) > MAX_PIECES

    def distance(self, sequence: int) -> int:
        """Return the distance of a sequence number from the next expected byte; negative if it lies before."""
        return (sequence - self._next + _HALF) % _ALL - _HALF

    def add(self, sequence: int, data: bytes, timestamp: int) -> tuple[list[tuple[int, T]], str]:
        """Return the items that a segment completes, and the reason for which bytes of it were dropped, or ""."""
        self._arrivals += 1
        start = self._next + self.distance(sequence)
        arrival = Arrival(self._arrivals, timestamp)
        if start == self._next:
            overlap = bool(self._ahead) and self._ahead[0].position < start + len(data)
            return self._take(data, arrival) + self._drain(), "tcp_overlap" if overlap else ""
        fresh = self._fresh(_Piece(start, data, arrival))
        self._ahead = sorted(self._ahead + fresh)
        size = sum(len(piece.data) for piece in fresh)
        self._ahead_bytes += size
        dropped = "" if size == len(data) else "tcp_overlap" if size else "tcp_retransmission"
        return self._drain(), dropped

    def give_up_gap(self) -> list[tuple[int, T]]:
        """Continue after the first gap."""
        self.reader.skip()
        self._next = self._ahead[0].position
        return self._drain()

    def _fresh(self, piece: _Piece) -> list[_Piece]:
        """Return the parts of a piece that are new: neither read nor held."""
        at, fresh = max(piece.position, self._next), []
        for held in self._ahead:
            if held.position >= piece.end:
                break
            if held.position > at:
                fresh.append(_part(piece, at, held.position))
            at = max(at, held.end)
        if at < piece.end:
            fresh.append(_part(piece, at, piece.end))
        return fresh

    def _drain(self) -> list[tuple[int, T]]:
        """Take the pieces that the next expected byte has reached."""
        found: list[tuple[int, T]] = []
        drained = 0
        for piece in self._ahead:
            if piece.position > self._next:
                break
            drained += 1
            self._ahead_bytes -= len(piece.data)
            if piece.end > self._next:
                found += self._take(piece.data[self._next - piece.position :], piece.arrival)
        del self._ahead[:drained]
        return found

    def _take(self, data: bytes, arrival: Arrival) -> list[tuple[int, T]]:
        self._next += len(data)
        return self.reader.take(data, arrival)


def _part(piece: _Piece, start: int, end: int) -> _Piece:
    return _Piece(start, piece.data[start - piece.position : end - piece.position], piece.arrival)
