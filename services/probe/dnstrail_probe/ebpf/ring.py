"""Reads the BPF ring buffer through mmap: one slice for all records that have arrived (kernel/bpf/ringbuf.c)."""

from __future__ import annotations

import mmap
import struct

_PAGE = mmap.PAGESIZE
_HEAD = 8  # bytes before each record: its length with two flags, and an offset
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_SIZE = _DISCARDED - 1  # the length without the flags
_POSITION = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_AT_ONCE = 1 << 19  # bytes that one call reads


class Ring:
    """The reading end of a ring buffer, which must have no other reader.

    Relies on ordered loads, which x86-64 guarantees. The kernel maps the data twice in a row, so a record is never
    split at the end of the buffer.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        self._mask = size - 1
        self._consumer = mmap.mmap(map_fd, _PAGE)
        self._producer = mmap.mmap(map_fd, _PAGE + 2 * size, prot=mmap.PROT_READ, offset=_PAGE)
        (self._at,) = _POSITION.unpack_from(self._consumer)

    def drain(self) -> list[bytes]:
        """Return the complete records, in their order; half a mebibyte at most."""
        (end,) = _POSITION.unpack_from(self._producer)
        start = _PAGE + (self._at & self._mask)
        chunk = self._producer[start : start + min(end - self._at, _AT_ONCE)]
        records: list[bytes] = []
        at, size = 0, len(chunk)
        while (begin := at + _HEAD) <= size:
            (length,) = _LENGTH.unpack_from(chunk, at)
            after = begin + ((length & _SIZE) + 7 & -8)
            if length & _BUSY or after > size:
                break
            if not length & _DISCARDED:
                records.append(chunk[begin : begin + length])
            at = after
        if at:
            self._at += at
            _POSITION.pack_into(self._consumer, 0, self._at)
        return records

    def close(self) -> None:
        """Unmap the buffer."""
        self._consumer.close()
        self._producer.close()
