"""The reading end of the ring buffer, over a file instead of the memory of the kernel."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.kernel.ring_buffer import RingBuffer
from live import ring_writer
from live.processes import PATIENCE
from live.workers import wait_until

PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30
SIZE = 1 << 20
WRITER = Path(ring_writer.__file__)


@pytest.fixture
def file() -> Iterator[int]:
    """Open a file of the shape of a ring buffer: a position each of the reader and the writer, and the data twice."""
    descriptor = os.memfd_create("ring")
    os.ftruncate(descriptor, 2 * PAGE + 2 * SIZE)
    yield descriptor
    os.close(descriptor)


@contextmanager
def opened(file: int, at: int = 0) -> Iterator[RingBuffer]:
    """Open a ring that was read and written up to a position."""
    os.pwrite(file, struct.pack("Q", at), 0)
    os.pwrite(file, struct.pack("Q", at), PAGE)
    ring = RingBuffer(file, SIZE)
    yield ring
    ring.close()


def put(file: int, at: int, *records: tuple[bytes, int]) -> None:
    """Write records with these flags from a position on."""
    for payload, flags in records:
        head = struct.pack("II", len(payload) | flags, 0)
        for copy in (0, SIZE):
            os.pwrite(file, head + payload, 2 * PAGE + at % SIZE + copy)
        at += 8 + (len(payload) + 7 & -8)
    os.pwrite(file, struct.pack("Q", at), PAGE)


def test_records_are_returned_in_order_without_the_discarded(file):
    """Lengths are padded to eight bytes; the reader passes discarded records."""
    with opened(file) as ring:
        put(file, 0, (b"one", 0), (b"x" * 100, DISCARDED), (b"", 0), (b"12345678", 0))
        assert ring.drain() == [b"one", b"", b"12345678"]
        assert ring.drain() == []
        assert os.pread(file, 8, 0) == os.pread(file, 8, PAGE)


def test_a_record_that_is_not_complete_holds_back_those_after_it(file):
    """The reader stops at a record that its writer still fills."""
    with opened(file) as ring:
        put(file, 0, (b"one", 0), (b"two", BUSY), (b"three", 0))
        assert ring.drain() == [b"one"]
        assert ring.drain() == []
        put(file, 16, (b"TWO", 0), (b"three", 0))
        assert ring.drain() == [b"TWO", b"three"]


@pytest.mark.parametrize("at", [SIZE - 8, SIZE - 64, 5 * SIZE - 16, (1 << 40) - 8])
def test_a_record_continues_past_the_end_of_the_buffer(file, at):
    """The data lies there twice, so that a record is whole."""
    with opened(file, at) as ring:
        put(file, at, (b"payload" * 9, 0))
        assert ring.drain() == [b"payload" * 9]


def test_one_call_reads_half_a_mebibyte_at_most(file):
    """What waits longer is read by the next calls."""
    payload = bytes(40_000)
    with opened(file) as ring:
        put(file, 0, *[(payload, 0)] * 25)
        counts = [len(ring.drain()) for _ in range(3)]
    assert counts == [13, 12, 0]


@pytest.mark.parametrize("size", [64 << 10, 512 << 10, SIZE, 8 * SIZE])
def test_the_window_moves_with_the_reader(size):
    """Of a buffer of any size, each byte is read, also of records across its end; little of a large one is mapped."""
    file = os.memfd_create("ring")
    os.ftruncate(file, 2 * PAGE + 2 * size)
    ring, at = RingBuffer(file, size), 0
    while at < 3 * size:
        payload = struct.pack("Q", at) * 3751  # 30 kB, so that records lie anywhere
        os.pwrite(file, struct.pack("II", len(payload), 0) + payload, 2 * PAGE + at % size)
        at += 8 + len(payload)
        os.pwrite(file, struct.pack("Q", at), PAGE)
        assert ring.drain() == [payload]
    mapped = len(ring._window)
    ring.close()
    os.close(file)
    assert mapped <= 2 * SIZE


def test_reader_and_writer_see_whole_positions(file):
    """While another process writes, each record is read once, and the position of the reader never goes back.

    A position that goes back for an instant, as when its bytes are written one after the other, is a full ring.
    """
    count = 100_000
    with opened(file) as ring:
        command = [sys.executable, str(WRITER), str(file), str(SIZE), str(count)]
        with subprocess.Popen(command, pass_fds=[file], stdout=subprocess.PIPE, text=True) as writer:
            read: list[bytes] = []

            def take() -> bool:
                for _ in range(1000):
                    read.extend(ring.drain())
                return len(read) >= count

            wait_until(take, "all records")
            said, _ = writer.communicate(timeout=PATIENCE)
    words = ring_writer.RECORD // 8 - 1
    assert read == [struct.pack("Q", number) * words for number in range(count)]
    assert int(said) == 0
