"""The reading end of a ring buffer of the kernel (BPF_MAP_TYPE_RINGBUF)."""

from __future__ import annotations

import mmap
import struct

_PAGE = mmap.PAGESIZE
_HEAD = 8  # bytes before each record: its length with two flags, and an offset
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_SIZE = _DISCARDED - 1  # the length without the flags
_LENGTH = struct.Struct("I")
_AT_ONCE = 1 << 19  # bytes that one call reads
_WINDOW = 1 << 21  # bytes of the data that are mapped at once


class RingBuffer:
    """The reading end of a ring buffer, which must have no other reader.

    Relies on ordered loads, which x86-64 guarantees: a record is read after its length states that it is complete. The
    kernel offers the data twice in a row, so a record is never split at the end of the buffer. Only a window of it is
    mapped, which moves with the reader: all mapped pages count as memory of this process.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        self._file = map_fd
        self._mask = size - 1
        self._at_once = min(_AT_ONCE, size)
        self._most = 2 * size
        self._consumer = mmap.mmap(map_fd, _PAGE)
        self._producer = mmap.mmap(map_fd, _PAGE, prot=mmap.PROT_READ, offset=_PAGE)
        # A view reads and writes a position by one instruction. `struct` moves it byte by byte, and writes zeros first.
        self._read = memoryview(self._consumer).cast("Q")
        self._written = memoryview(self._producer).cast("Q")
        self._at = self._read[0]
        self._begin = 0  # of the window in the data
        self._window = self._map()

    def drain(self) -> list[bytes]:
        """Return the complete records, in their order; half a mebibyte at most."""
        start = at = self._place()
        data = self._window
        last = start + min(self._written[0] - self._at, self._at_once)
        records: list[bytes] = []
        while at < last:
            (length,) = _LENGTH.unpack_from(data, at)
            begin = at + _HEAD
            after = begin + ((length & _SIZE) + 7 & -8)
            if length & _BUSY or after > last:
                break
            if not length & _DISCARDED:
                records.append(data[begin : begin + length])
            at = after
        if at > start:
            self._at += at - start
            self._read[0] = self._at
        return records

    def close(self) -> None:
        """Unmap the buffer."""
        self._read.release()
        self._written.release()
        for mapped in (self._consumer, self._producer, self._window):
            mapped.close()

    def _place(self) -> int:
        """Return where the next record begins in the window; move the window if it may end before what is read now."""
        place = (self._at & self._mask) - self._begin
        if place < 0 or place + self._at_once > len(self._window):
            self._window.close()
            self._begin = min((self._at & self._mask) & -_PAGE, self._most - min(_WINDOW, self._most))
            self._window = self._map()
        return (self._at & self._mask) - self._begin

    def _map(self) -> mmap.mmap:
        length = min(_WINDOW, self._most)
        return mmap.mmap(self._file, length, prot=mmap.PROT_READ, offset=2 * _PAGE + self._begin)
