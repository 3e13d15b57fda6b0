"""Reads the BPF ring buffer through mmap: the records that have arrived, in one call (kernel/bpf/ringbuf.c)."""

from __future__ import annotations

import mmap
import struct

_PAGE = mmap.PAGESIZE
_HEAD = 8  # bytes before each record: its length with two flags, and an offset
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_SIZE = _DISCARDED - 1  # the length without the flags
_LENGTH = struct.Struct("I")
_AT_ONCE = 1 << 19  # bytes that one call reads


class RingBuffer:
    """The reading end of a ring buffer, which must have no other reader.

    Relies on ordered loads, which x86-64 guarantees: a record is read after its length states that it is complete. The
    kernel maps the data twice in a row, so a record is never split at the end of the buffer.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        self._mask = size - 1
        self._consumer = mmap.mmap(map_fd, _PAGE)
        self._producer = mmap.mmap(map_fd, _PAGE + 2 * size, prot=mmap.PROT_READ, offset=_PAGE)
        # A view reads and writes a position by one instruction. `struct` moves it byte by byte, and writes zeros first.
        self._read = memoryview(self._consumer).cast("Q")
        self._written = memoryview(self._producer)[:_PAGE].cast("Q")
        self._at = self._read[0]

    def drain(self) -> list[bytes]:
        """Return the complete records, in their order; half a mebibyte at most."""
        producer = self._producer
        start = at = _PAGE + (self._at & self._mask)
        last = start + min(self._written[0] - self._at, _AT_ONCE)
        records: list[bytes] = []
        while at < last:
            (length,) = _LENGTH.unpack_from(producer, at)
            begin = at + _HEAD
            after = begin + ((length & _SIZE) + 7 & -8)
            if length & _BUSY or after > last:
                break
            if not length & _DISCARDED:
                records.append(producer[begin : begin + length])
            at = after
        if at > start:
            self._at += at - start
            self._read[0] = self._at
        return records

    def close(self) -> None:
        """Unmap the buffer."""
        self._read.release()
        self._written.release()
        self._consumer.close()
        self._producer.close()
