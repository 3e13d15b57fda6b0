"""Writes numbered records into the file of a ring buffer, as the kernel does; prints how often the reader went back.

`python ring_writer.py FD SIZE COUNT`: SIZE is the size of the data in bytes, COUNT the number of records.
"""

from __future__ import annotations

import mmap
import sys

PAGE = mmap.PAGESIZE
RECORD = 64  # bytes, with the head
BUSY = 1 << 31


def write(ring: int, size: int, count: int) -> int:
    """Write the records; return how often the position of the reader was less than before."""
    with mmap.mmap(ring, 2 * PAGE + 2 * size) as pages, memoryview(pages).cast("Q") as words:
        reader = back = 0
        for number in range(count):
            position = number * RECORD
            while True:
                seen = words[0]
                back += seen < reader
                reader = max(reader, seen)
                if position + RECORD - reader <= size:
                    break
            at = (2 * PAGE + position % size) // 8
            copies = at, at + size // 8  # the kernel maps one copy twice
            for copy in copies:
                words[copy] = BUSY | RECORD - 8
            words[PAGE // 8] = position + RECORD
            for copy in copies:
                for offset in range(1, RECORD // 8):
                    words[copy + offset] = number
            for copy in copies:
                words[copy] = RECORD - 8
        return back


if __name__ == "__main__":
    print(write(*map(int, sys.argv[1:])))
