"""DNS messages in a TCP stream: each behind its length in two bytes (RFC 1035, section 4.2.2; RFC 7766, section 8)."""

from __future__ import annotations

import struct
from collections import Counter

from dnstrail_probe.packets.tcp_stream import Arrival

_PREFIX = 2
_HEADER = struct.Struct("!4x4H")  # the four counts
_LAST_OPCODE = 6  # DSO; no later one has been assigned
_SMALLEST_QUESTION, _SMALLEST_RECORD = 5, 11


class DnsMessages:
    """Reads messages off a stream.

    Where its start was seen (`known`) the lengths alone lead from message to message. Otherwise, and behind a gap,
    whatever a segment begins with must look like a message, and so must all that follow; where one does not,
    the next segment is tried.
    """

    done = False

    def __init__(self, counters: Counter[str], *, known: bool) -> None:
        self._counters = counters
        self._known = known
        self._buffer = bytearray()
        self._latest = Arrival(0, 0)  # of the segments that the message at the head of the buffer is in

    @property
    def held(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._buffer)

    def take(self, data: bytes, arrival: Arrival) -> list[tuple[int, bytes]]:
        """The messages that these bytes complete."""
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
            self._latest = arrival  # what is left came with this segment
        return found

    def skip(self) -> None:
        """Whatever the gap was in is lost."""
        self._buffer.clear()
        self._known = False

    def _length(self) -> int | None:
        return int.from_bytes(self._buffer[:_PREFIX]) if len(self._buffer) >= _PREFIX else None

    def _in_step(self, segment: bytes) -> bool:
        """Whether a message may stand at the head of the buffer; what cannot be one is thrown away."""
        if self._known or len(self._buffer) < _PREFIX + _HEADER.size or looks_like_message(self._buffer):
            return self._known or len(self._buffer) >= _PREFIX + _HEADER.size
        self._counters["tcp_out_of_step"] += 1
        started_before = len(self._buffer) > len(segment)
        self._buffer = bytearray(segment if started_before else b"")
        return started_before and self._in_step(segment)


def looks_like_message(data: bytes | bytearray) -> bool:
    """Whether a length and the head of a message that fits into it stand at the start of at least 14 bytes."""
    length = int.from_bytes(data[:_PREFIX])
    opcode = data[_PREFIX + 2] >> 3 & 0xF
    questions, *records = _HEADER.unpack_from(data, _PREFIX)
    smallest = _HEADER.size + questions * _SMALLEST_QUESTION + sum(records) * _SMALLEST_RECORD
    return opcode <= _LAST_OPCODE and questions <= 1 and smallest <= length
