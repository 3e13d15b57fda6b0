"""DNS messages in a TCP stream, each after its length in two bytes (RFC 1035, section 4.2.2; RFC 7766, section 8)."""

from __future__ import annotations

import struct
from collections import Counter

from dnstrail_probe.packets.tcp_stream import Arrival

_PREFIX = 2
_HEADER = struct.Struct("!4x4H")  # the four counts
_LAST_OPCODE = 6  # DSO; no higher opcode is assigned
_SMALLEST_QUESTION, _SMALLEST_RECORD = 5, 11


class DnsMessages:
    """The reader of the messages of one stream; it holds one incomplete message at most.

    If the start of the stream was seen (`from_start`), the lengths alone lead from message to message. Otherwise, and
    after a gap, a segment counts only if its first bytes look like a message; so must every message after it. At the
    first that does not, the reader tries the next segment.
    """

    done = False

    def __init__(self, counters: Counter[str], *, from_start: bool) -> None:
        self._counters = counters
        self._in_order = from_start
        self._buffer = bytearray()
        self._latest = Arrival(0, 0)  # of the segments with the message at the head of the buffer

    @property
    def held(self) -> int:
        """Bytes of an incomplete message."""
        return len(self._buffer)

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, bytes]]:
        """Return the messages that these bytes complete."""
        self._latest = max(self._latest, arrival) if self._buffer else arrival
        self._buffer += data
        found: list[tuple[int, bytes]] = []
        while self._in_step(data):
            length = self._length()
            if length is None or len(self._buffer) < _PREFIX + length:
                break
            message = bytes(self._buffer[_PREFIX : _PREFIX + length])
            del self._buffer[: _PREFIX + length]
            if length < _HEADER.size:
                self._counters["tcp_message_short"] += 1
            else:
                found.append((self._latest.timestamp, message))
            self._latest = arrival  # the rest of the buffer came with this segment
        return found

    def skip(self) -> None:
        """Drop the message in which the gap is."""
        self._buffer.clear()
        self._in_order = False

    def _length(self) -> int | None:
        return int.from_bytes(self._buffer[:_PREFIX]) if len(self._buffer) >= _PREFIX else None

    def _in_step(self, segment: bytes) -> bool:
        """Return true if the buffer can begin with a message; drop bytes that cannot."""
        if self._in_order or len(self._buffer) < _PREFIX + _HEADER.size or looks_like_message(self._buffer):
            return self._in_order or len(self._buffer) >= _PREFIX + _HEADER.size
        self._counters["tcp_out_of_step"] += 1
        started_before = len(self._buffer) > len(segment)
        self._buffer = bytearray(segment if started_before else b"")
        return started_before and self._in_step(segment)


def looks_like_message(data: bytes | bytearray) -> bool:
    """Return true if data (14 bytes or more) begin with a length and the header of a message that fits into it."""
    length = int.from_bytes(data[:_PREFIX])
    opcode = data[_PREFIX + 2] >> 3 & 0xF
    questions, *records = _HEADER.unpack_from(data, _PREFIX)
    smallest = _HEADER.size + questions * _SMALLEST_QUESTION + sum(records) * _SMALLEST_RECORD
    return opcode <= _LAST_OPCODE and questions <= 1 and smallest <= length
