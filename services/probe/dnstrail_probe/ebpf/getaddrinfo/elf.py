"""Reads two facts from a program file: its interpreter, and the offset of a function (elf(5)).

The reader is our own, since anybody can write such a file: every read is bounded, and a malformed file yields None.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from dnstrail_probe.host.process_root import Identity, identity, open_below

_LIBRARY = "libc.so.6"
# Debian's interpreter is reached through a link in another folder, so its library is searched for here as well.
_DEBIAN = [f"{folder}/{platform.machine()}-linux-gnu/{_LIBRARY}" for folder in ("/lib", "/usr/lib")]
_OTHERS = [f"{folder}/{_LIBRARY}" for folder in ("/lib64", "/usr/lib64", "/lib", "/usr/lib")]
_MUSL = f"/lib/ld-musl-{platform.machine()}.so.1"
# (size, offset) -> at most that many bytes from the offset on, as os.pread reads from a descriptor.
Read = Callable[[int, int], bytes]
_HEADER = struct.Struct("<4s2B10x2xH4x8x2Q4x2x4H2x")  # without type, version, entry, flags, size and names
_SEGMENT = struct.Struct("<2I2Q8xQ16x")  # without physical address, size in memory and alignment
_SECTION = struct.Struct("<4xI8x8x2QI4x16x")  # without name, flags, address, info, alignment and size of entries
_SYMBOL = struct.Struct("<I2BH2Q")
_64_BITS, _LITTLE_ENDIAN = 2, 1
_MACHINES = {"x86_64": 62, "aarch64": 183}
_LOAD, _INTERPRETER = 1, 3  # types of segments
_DYNAMIC_SYMBOLS = 11  # type of a section
_FUNCTION, _TYPE = 2, 15  # a type of symbols, and the bits that hold the type
_EXECUTABLE = 1
_LONGEST_PATH = 4096
_MOST_HEADERS = 1024
_LAST_OFFSET = 1 << 62  # an offset in a file is a signed number
_LARGEST_TABLE = 4 << 20  # bytes of symbols, and of their names; glibc has some 100 KiB


class _Header(NamedTuple):
    magic: bytes
    bits: int
    order: int
    machine: int
    segments: int
    sections: int
    segment_size: int
    segment_count: int
    section_size: int
    section_count: int


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    size: int


class _Section(NamedTuple):
    kind: int
    offset: int
    size: int
    link: int


def interpreter(read: Read) -> str | None:
    """Return the program that loads this one and its libraries, as an absolute path; None if there is none."""
    for segment in _segments(read):
        if segment.kind == _INTERPRETER:
            path = _bounded(read, segment.size, segment.offset, _LONGEST_PATH).partition(b"\0")[0]
            return os.fsdecode(path) if path.startswith(b"/") else None
    return None


def function_offset(read: Read, name: str) -> int | None:
    """Return the offset in the file at which an exported function begins; None if there is no such function."""
    address = _address(read, name.encode() + b"\0")
    if address is None:
        return None
    for segment in _segments(read):
        within = address - segment.address
        if segment.kind == _LOAD and segment.flags & _EXECUTABLE and 0 <= within < segment.size:
            return segment.offset + within
    return None


def _address(read: Read, wanted: bytes) -> int | None:
    sections = list(_sections(read))
    dynamic = next((section for section in sections if section.kind == _DYNAMIC_SYMBOLS), None)
    if dynamic is None or dynamic.link >= len(sections):
        return None
    names, symbols = _table(read, sections[dynamic.link]), _table(read, dynamic)
    whole = len(symbols) - len(symbols) % _SYMBOL.size
    for at, info, _, section, address, _ in _SYMBOL.iter_unpack(symbols[:whole]):
        if section and info & _TYPE == _FUNCTION and names.startswith(wanted, at):
            return int(address)
    return None


def _table(read: Read, section: _Section) -> bytes:
    return _bounded(read, section.size, section.offset, _LARGEST_TABLE)


def _bounded(read: Read, size: int, offset: int, most: int) -> bytes:
    """Read at an offset that the file itself states, so it can be any number."""
    return read(min(size, most), offset) if offset < _LAST_OFFSET else b""


def _segments(read: Read) -> Iterator[_Segment]:
    header = _header(read)
    if header is not None and header.segment_size == _SEGMENT.size:
        yield from map(_Segment._make, _entries(read, _SEGMENT, header.segments, header.segment_count))


def _sections(read: Read) -> Iterator[_Section]:
    header = _header(read)
    if header is not None and header.section_size == _SECTION.size:
        yield from map(_Section._make, _entries(read, _SECTION, header.sections, header.section_count))


def _entries(read: Read, entry: struct.Struct, offset: int, count: int) -> Iterator[tuple[int, ...]]:
    data = _bounded(read, count * entry.size, offset, _MOST_HEADERS * entry.size)
    return entry.iter_unpack(data[: len(data) - len(data) % entry.size])


def _header(read: Read) -> _Header | None:
    """Return the header of a 64-bit file for this machine; None for any other file."""
    data = read(_HEADER.size, 0)
    if len(data) < _HEADER.size:
        return None
    header = _Header._make(_HEADER.unpack(data))
    ours = header.bits == _64_BITS and header.order == _LITTLE_ENDIAN
    machine = _MACHINES.get(platform.machine())
    return header if header.magic == b"\x7fELF" and ours and header.machine == machine else None


def c_libraries(pid: int, root: int) -> Iterator[int]:
    """Yield descriptors of the files that can be the C library of a process, each file once.

    A descriptor is open until the next one is requested. A program without an interpreter has no library. `root` is
    the root directory of the process.

    Raises:
        OSError: the process has ended, or this user may not read it.
    """
    program = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        loader = interpreter(partial(os.pread, program))
    finally:
        os.close(program)
    if loader is not None:
        yield from _files(root, (loader, f"{loader.rpartition('/')[0]}/{_LIBRARY}", *_DEBIAN))


def usual_libraries(root: int) -> Iterator[int]:
    """Yield descriptors of the C libraries in the usual places below a root, in the same way."""
    return _files(root, (*_DEBIAN, *_OTHERS, _MUSL))


def _files(root: int, paths: Iterable[str]) -> Iterator[int]:
    seen: set[Identity] = set()
    for path in paths:
        with suppress(OSError), open_below(root, path) as file:
            which = identity(os.fstat(file))
            if which not in seen:
                seen.add(which)
                yield file
