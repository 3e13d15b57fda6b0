from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail_probe.ebpf.getaddrinfo.elf import Read, function_offset, interpreter

HEAD, SECTIONS, MACHINE, BITS = 64, 40, 18, 4  # where they are in a header


def reading(data: bytes) -> Read:
    """Reads from bytes as os.pread does from a file."""
    return lambda size, offset: data[offset : offset + size]


def mapped(address: int) -> tuple[str, int]:
    """Which file this process has at an address, and the place in the file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split()
        start, end = (int(edge, 16) for edge in span.split("-"))
        if start <= address < end:
            return path[0], int(offset, 16) + address - start
    raise AssertionError(f"nothing is mapped at {address:#x}")


@pytest.fixture(scope="module")
def library() -> tuple[bytes, int]:
    """The C library of this process, and where its getaddrinfo begins, as the running process has it."""
    address = ctypes.cast(ctypes.CDLL(None).getaddrinfo, ctypes.c_void_p).value
    path, offset = mapped(address)
    return Path(path).read_bytes(), offset


def test_a_function_is_where_the_running_process_has_it(library):
    """The place that the symbols tell is the one from which the loader mapped the function."""
    data, offset = library
    assert function_offset(reading(data), "getaddrinfo") == offset


@pytest.mark.parametrize("name", ["getaddrinf", "etaddrinfo", "getaddrinfo_a_no_such", "", "_nss_files_no_such"])
def test_a_function_that_is_not_there(library, name):
    """Neither the beginning nor the end of a name is taken for it."""
    assert function_offset(reading(library[0]), name) is None


def test_the_interpreter_of_a_program():
    """A program that is linked to libraries names its loader, which is there; a library need not."""
    with Path(sys.executable).open("rb") as program:
        found = interpreter(partial(os.pread, program.fileno()))
    assert found is not None
    assert Path(found).exists()


@pytest.mark.parametrize(("at", "value"), [(0, 0), (BITS, 1), (BITS + 1, 2), (MACHINE, 3), (MACHINE + 1, 1)], ids=str)
def test_a_file_of_another_kind(library, at, value):
    """What is no program, or one of another machine, of 32 bits or another byte order, has no function."""
    data = bytearray(library[0])
    data[at] = value
    assert function_offset(reading(bytes(data)), "getaddrinfo") is None


def test_a_file_that_ends_early(library):
    """However much of a file is missing, nothing is found or the right place, and nothing is raised."""
    data, offset = library
    for size in (*range(0, 4096, 61), *range(4096, len(data), 50021)):
        assert function_offset(reading(data[:size]), "getaddrinfo") in (None, offset)
        interpreter(reading(data[:size]))


@contextmanager
def a_file(data: bytes) -> Iterator[int]:
    """A real file, which refuses what no file can have."""
    file = os.memfd_create("elf")
    os.write(file, data)
    try:
        yield file
    finally:
        os.close(file)


@given(st.data())
def test_damage_anywhere_in_the_tables(library, data):
    """Whatever the header and the tables say, a real file is read within bounds, without an exception."""
    wire = bytearray(library[0])
    sections = int.from_bytes(wire[SECTIONS : SECTIONS + 8], "little")
    places = st.one_of(st.integers(0, 1023), st.integers(sections, len(wire) - 1))
    values = st.one_of(st.binary(min_size=1, max_size=1), st.sampled_from([b"\xff" * 8, b"\xff" * 7 + b"\x7f"]))
    for at, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=8)):
        wire[at : at + len(value)] = value
    largest = 0
    with a_file(wire) as file:

        def read(size: int, offset: int) -> bytes:
            nonlocal largest
            largest = max(largest, size)
            return os.pread(file, size, offset)

        found = function_offset(read, "getaddrinfo")
        assert found is None or found >= 0
        interpreter(read)
    assert largest <= 4 << 20


@pytest.mark.parametrize("offset", [(1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 62, 1 << 40])
@pytest.mark.parametrize("at", [32, SECTIONS], ids=["segments", "sections"])
def test_tables_at_places_that_no_file_has(library, at, offset):
    """Tables that lie beyond any file are not there."""
    wire = bytearray(library[0])
    wire[at : at + 8] = offset.to_bytes(8, "little")
    with a_file(wire) as file:
        assert function_offset(partial(os.pread, file), "getaddrinfo") is None
        interpreter(partial(os.pread, file))


def test_an_interpreter_of_any_bytes():
    """The path of an interpreter may be any bytes, and comes back as they were."""
    with Path(sys.executable).open("rb") as program:
        data = program.read(1 << 16)
    own = interpreter(reading(data))
    assert own is not None
    odd = b"/\xff\xfe" + b"x" * (len(own) - 3)
    assert os.fsencode(str(interpreter(reading(data.replace(own.encode() + b"\0", odd + b"\0"))))) == odd


@given(st.binary(max_size=200).map(lambda tail: b"\x7fELF\x02\x01\x01" + tail))
def test_any_bytes(data):
    """No bytes raise anything."""
    assert function_offset(reading(data), "getaddrinfo") is None
    assert interpreter(reading(data)) is None or data
