"""Puts the bytes of one direction of a TCP connection in order (RFC 9293, section 3.4)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol, TypeVar

MAX_AHEAD = 128 << 10  #: bytes of one stream behind a gap -> the gap is skipped: `tcp_gap`
MAX_PIECES = 512  #: segments of one stream behind a gap -> the gap is skipped: `tcp_gap`
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

    @property
    def done(self) -> bool:
        """True if it needs no more bytes of this stream."""

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, T]]:
        """Return the items that these bytes complete, each with the time stamp of the segment that completed it."""

    def skip(self) -> None:
        """Note that bytes are missing here."""


class _Piece(NamedTuple):
    position: int
    data: bytes
    arrival: Arrival
    sure: bool = True  # false if other bytes came for a part of it: the receiver can have either

    @property
    def end(self) -> int:
        return self.position + len(self.data)

    def contradicts(self, other: _Piece) -> bool:
        """Return true if both have different bytes for a position."""
        start, end = max(self.position, other.position), min(self.end, other.end)
        return start < end and self.between(start, end) != other.between(start, end)

    def part(self, start: int, end: int) -> _Piece:
        """Return the piece between two positions."""
        return self._replace(position=start, data=self.between(start, end))

    def between(self, start: int, end: int) -> bytes:
        """Return the bytes between two positions."""
        return self.data[start - self.position : end - self.position]


class Stream(Generic[T]):
    """The bytes of a stream from `first` on, in order: each byte reaches the reader once.

    Positions are sequence numbers that do not wrap around. Segments after a gap are held until the gap is filled or
    given up. Of bytes that arrive twice, those count that come with the next expected byte, as in Linux. Behind a gap,
    segments that overlap and differ are skipped like a gap: which of them Linux keeps depends on how it stored them.
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
    def farthest(self) -> int:
        """The position after the last byte that has arrived."""
        return self._ahead[-1].end if self._ahead else self._next

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
        piece = _Piece(start, data, Arrival(self._arrivals, timestamp))
        if start <= self._next < piece.end:
            overlap = start < self._next or (bool(self._ahead) and self._ahead[0].position < piece.end)
            return self._take(piece) + self._drain(), "tcp_retransmission" if overlap else ""
        if piece.end <= self._next:
            return [], "tcp_retransmission"
        return [], self._hold(piece)

    def give_up_gap(self) -> list[tuple[int, T]]:
        """Continue after the first gap."""
        self.reader.skip()
        self._next = self._ahead[0].position
        return self._drain()

    def _hold(self, piece: _Piece) -> str:
        """Hold a piece behind a gap; return the reason for which bytes of it were dropped, or ""."""
        first = bisect_right(self._ahead, piece.position, key=attrgetter("end"))
        last = bisect_left(self._ahead, piece.end, lo=first, key=attrgetter("position"))
        touched = self._ahead[first:last]
        fresh = _fresh(piece, touched)
        differ = [held.contradicts(piece) for held in touched]
        if any(differ):
            touched = [held._replace(sure=held.sure and not one) for held, one in zip(touched, differ, strict=True)]
        self._ahead[first:last] = sorted(touched + fresh)
        size = sum(len(one.data) for one in fresh)
        self._ahead_bytes += size
        if any(differ):
            return "tcp_conflict"
        return "" if size == len(piece.data) else "tcp_retransmission"

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
                found += self._take(piece)
        del self._ahead[:drained]
        return found

    def _take(self, piece: _Piece) -> list[tuple[int, T]]:
        """Read the bytes of a piece from the next expected one on."""
        data = piece.data[self._next - piece.position :]
        self._next = piece.end
        if piece.sure:
            return self.reader.take(data, piece.arrival)
        self.reader.skip()
        return []


def _fresh(piece: _Piece, held: list[_Piece]) -> list[_Piece]:
    """Return the parts of a piece that are new beside those held, which it overlaps."""
    at, fresh = piece.position, []
    for one in held:
        if one.position > at:
            fresh.append(piece.part(at, one.position))
        at = max(at, one.end)
    if at < piece.end:
        fresh.append(piece.part(at, piece.end))
    return fresh
