from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import InterpSegment
from hypothesis import given
from hypothesis import strategies as st

from dnstrail_probe.ebpf.getaddrinfo.elf import Read, function_offset, interpreter

SEGMENTS, SECTIONS, MACHINE, BITS = 32, 40, 18, 4  # positions in a header
LARGEST = 16 << 20  # bytes of a library: pyelftools needs seconds for the symbols of a compiler
LIBRARIES = sorted(
    path for path in Path("/usr/lib").glob("*-linux-gnu/*.so*") if path.is_file() and path.stat().st_size < LARGEST
)
PROGRAMS = sorted(path for path in Path("/usr/bin").iterdir() if path.is_file())
MOST = 30  # files of each kind that are compared


def reading(data: bytes) -> Read:
    """Read from bytes as os.pread reads from a file."""
    return lambda size, offset: data[offset : offset + size]


def mapped(address: int) -> tuple[str, int]:
    """Return the file that this process has mapped at an address, and the offset in the file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split()
        start, end = (int(edge, 16) for edge in span.split("-"))
        if start <= address < end:
            return path[0], int(offset, 16) + address - start
    raise AssertionError(f"nothing is mapped at {address:#x}")


@pytest.fixture(scope="module")
def library() -> tuple[bytes, int]:
    """Return the C library of this process, and the offset of its getaddrinfo as the running process has it."""
    address = ctypes.cast(ctypes.CDLL(None).getaddrinfo, ctypes.c_void_p).value
    path, offset = mapped(address)
    return Path(path).read_bytes(), offset


def test_a_function_is_where_the_running_process_has_it(library):
    """The offset from the symbols is the offset from which the loader mapped the function."""
    data, offset = library
    assert function_offset(reading(data), "getaddrinfo") == offset


@pytest.mark.parametrize("name", ["getaddrinf", "etaddrinfo", "getaddrinfo_a_no_such", "", "_nss_files_no_such"])
def test_a_function_that_is_not_there(library, name):
    """Only a complete name matches."""
    assert function_offset(reading(library[0]), name) is None


def files_of_this_machine(paths: list[Path]) -> Iterator[tuple[Path, ELFFile]]:
    """Yield some of these files, spread over all of them, as pyelftools reads them."""
    for path in paths[:: max(1, len(paths) // MOST)]:
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                yield path, ELFFile(file)


def offset_by_pyelftools(elf: ELFFile, symbol: object) -> int | None:
    """Return the offset of a symbol by the segments of pyelftools."""
    address = symbol.entry.st_value
    for segment in elf.iter_segments("PT_LOAD"):
        within = address - segment.header.p_vaddr
        if segment.header.p_flags & 1 and 0 <= within < segment.header.p_filesz:
            return int(segment.header.p_offset + within)
    return None


def functions(elf: ELFFile) -> dict[str, int | None]:
    """Return a few exported functions of a library, with their offsets by pyelftools; each name counts once."""
    table = elf.get_section_by_name(".dynsym")
    if not isinstance(table, SymbolTableSection):
        return {}
    found: dict[str, object] = {}
    for symbol in table.iter_symbols():
        if symbol.entry.st_info.type == "STT_FUNC" and symbol.entry.st_shndx != "SHN_UNDEF" and symbol.name:
            found.setdefault(symbol.name, symbol)
    few = list(found.items())[:: max(1, len(found) // 5)]
    return {name: offset_by_pyelftools(elf, symbol) for name, symbol in few}


def test_functions_of_libraries_are_where_pyelftools_finds_them():
    """Functions of the libraries of this host have the offsets that pyelftools finds."""
    compared = 0
    for path, elf in files_of_this_machine(LIBRARIES):
        read = reading(path.read_bytes())
        for name, offset in functions(elf).items():
            assert function_offset(read, name) == offset, (path, name)
            compared += 1
        assert function_offset(read, "no_such_function") is None
    assert compared > 60


def test_interpreters_of_programs_are_those_of_pyelftools():
    """Programs of this host have the interpreters that pyelftools finds."""
    compared = 0
    for path, elf in files_of_this_machine(PROGRAMS):
        named = [segment.get_interp_name() for segment in elf.iter_segments() if isinstance(segment, InterpSegment)]
        assert interpreter(reading(path.read_bytes())) == (named[0] if named else None), path
        compared += bool(named)
    assert compared > 10


def test_the_interpreter_of_a_program():
    """A program that is linked to libraries names its loader, which exists."""
    with Path(sys.executable).open("rb") as program:
        found = interpreter(partial(os.pread, program.fileno()))
    assert found is not None
    assert Path(found).exists()


@pytest.mark.parametrize(("at", "value"), [(0, 0), (BITS, 1), (BITS + 1, 2), (MACHINE, 3), (MACHINE + 1, 1)], ids=str)
def test_a_file_of_another_kind_has_no_function(library, at, value):
    """A file that is no ELF file, or is for another machine, for 32 bits or of another byte order, has no function."""
    data = bytearray(library[0])
    data[at] = value
    assert function_offset(reading(bytes(data)), "getaddrinfo") is None


def test_a_file_that_is_cut_short(library):
    """A file that is cut short anywhere yields nothing or the right offset, and raises nothing."""
    data, offset = library
    for size in (*range(0, 4096, 61), *range(4096, len(data), 50021)):
        assert function_offset(reading(data[:size]), "getaddrinfo") in (None, offset)
        interpreter(reading(data[:size]))


@contextmanager
def a_file(data: bytes) -> Iterator[int]:
    """Open a real file, which refuses offsets that no file has."""
    file = os.memfd_create("elf")
    os.write(file, data)
    try:
        yield file
    finally:
        os.close(file)


@given(st.data())
def test_damage_anywhere_in_the_tables(library, data):
    """Whatever header and tables contain, reads of a real file are bounded, and nothing is raised."""
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
@pytest.mark.parametrize("at", [SEGMENTS, SECTIONS], ids=["segments", "sections"])
def test_tables_beyond_the_end_are_empty(library, at, offset):
    """Tables at offsets beyond any file are empty."""
    wire = bytearray(library[0])
    wire[at : at + 8] = offset.to_bytes(8, "little")
    with a_file(wire) as file:
        assert function_offset(partial(os.pread, file), "getaddrinfo") is None
        interpreter(partial(os.pread, file))


def test_an_interpreter_of_any_bytes():
    """The path of an interpreter can be any bytes, and is returned unchanged."""
    with Path(sys.executable).open("rb") as program:
        data = program.read(1 << 16)
    own = interpreter(reading(data))
    assert own is not None
    odd = b"/\xff\xfe" + b"x" * (len(own) - 3)
    assert os.fsencode(str(interpreter(reading(data.replace(own.encode() + b"\0", odd + b"\0"))))) == odd


@given(st.binary(max_size=200).map(lambda tail: b"\x7fELF\x02\x01\x01" + tail))
def test_any_bytes(data):
    """Arbitrary bytes raise nothing."""
    assert function_offset(reading(data), "getaddrinfo") is None
    assert interpreter(reading(data)) is None or data
