"""The bpf(2) system call: makes maps, loads programs, and attaches them. All ends with the last descriptor of it.

Numbers and layouts: `union bpf_attr` and the enums of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec

from dnstrail.kernel.libc import system_call

_SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _PROG_LOAD, _PROG_ATTACH, _TRACEPOINT_OPEN, _BTF_LOAD = 0, 1, 2, 3, 5, 8, 17, 18
_LOOKUP_BATCH, _TAKE_BATCH, _LINK_CREATE = 24, 25, 28
_UPROBE_RETURN = 1
_MAP = struct.Struct("=7I16s4I")
_BTF = struct.Struct("=2Q3I")
_ELEMENT = struct.Struct("=I4x3Q")
_PROGRAM = struct.Struct("=2I2Q2IQ2I16s2I")
_TRACEPOINT = struct.Struct("=QI4x")
_BATCH = struct.Struct("=4Q2I2Q")
_COUNT = struct.Struct("=32xI")  # of a batch: how many the kernel has read
_HEAD = struct.Struct("=4I")
_UPROBE = struct.Struct("=4Q3I")
_SIZE = 80  # bytes of the attributes: a kernel accepts more than it knows, if they are 0
VMLINUX = Path("/sys/kernel/btf/vmlinux")  # the types of the running kernel
_SOCKET_STORAGE = 24  # BPF_MAP_TYPE_SK_STORAGE: the kernel demands the types of its keys and values
_BTF_HEADER = struct.Struct("=HBB5I")
_BTF_TYPES = struct.Struct("=7I")
_BTF_MAGIC, _BTF_VERSION = 0xEB9F, 1
_BTF_INT, _BTF_STRUCT = 1 << 24, 4 << 24  # BTF_KIND_*, as the kernel packs them
_BTF_SIGNED = 1 << 24  # BTF_INT_SIGNED
_BTF_NAMES = b"\0int\0"
_ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI
_LONGEST_NAME = 15
_INSTRUCTION = 8  # bytes
_LICENSE = b"GPL"
_LONGEST_LOG = 1 << 24  # bytes of the steps of the verifier
_INTERRUPTIONS = 19  # of the verifier: a signal to this thread ends it with EAGAIN
_LAST_LINES = 2  # of the log: what the verifier refused, and how far it came
ANY, NOEXIST = 0, 1  # BPF_ANY, BPF_NOEXIST


class ProgramType(IntEnum):
    """The types of programs (`enum bpf_prog_type`)."""

    KPROBE = 2
    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    RAW_TRACEPOINT = 17
    CGROUP_SOCK_ADDR = 18
    CGROUP_SOCKOPT = 25


class AttachType(IntEnum):
    """The hooks of programs (`enum bpf_attach_type`)."""

    CGROUP_INET_INGRESS = 0
    CGROUP_INET_EGRESS = 1
    CGROUP_INET_SOCK_CREATE = 2
    CGROUP_INET4_BIND = 8
    CGROUP_INET6_BIND = 9
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_INET4_POST_BIND = 12
    CGROUP_INET6_POST_BIND = 13
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    CGROUP_SETSOCKOPT = 22
    CGROUP_INET_SOCK_RELEASE = 34
    TRACE_UPROBE_MULTI = 48  # Linux 6.6


class MapShape(msgspec.Struct, frozen=True):
    """The type of a map (`enum bpf_map_type`), the bytes of a key and of a value, its entries and flags."""

    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int


def create_map(name: str, shape: MapShape) -> int:
    """Make a map; return its descriptor.

    Raises:
        OSError: the kernel refused it.
    """
    typed = shape.type == _SOCKET_STORAGE
    types = _load_types(shape.value_size) if typed else 0
    form = (shape.type, shape.key_size, shape.value_size, shape.entries, shape.flags)
    attributes = _MAP.pack(*form, 0, 0, _short(name), 0, types, *((1, 2) if typed else (0, 0)))
    try:
        return _bpf("BPF_MAP_CREATE", _MAP_CREATE, attributes)
    except PermissionError:  # before Linux 5.11 the memory of maps counts as locked
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return _bpf("BPF_MAP_CREATE", _MAP_CREATE, attributes)
    finally:
        if typed:
            os.close(types)


def _load_types(size: int) -> int:
    """Load BTF with two types: 1 is an `int`, and 2 a struct of this size without members. Return its descriptor.

    Layout: Documentation/bpf/btf.rst.

    Raises:
        OSError: the kernel refused it.
    """
    types = _BTF_TYPES.pack(1, _BTF_INT, 4, _BTF_SIGNED | 32, 0, _BTF_STRUCT, size)
    places = (0, len(types), len(types), len(_BTF_NAMES))
    text = _BTF_HEADER.pack(_BTF_MAGIC, _BTF_VERSION, 0, _BTF_HEADER.size, *places) + types + _BTF_NAMES
    held = ctypes.c_char_p(text)
    return _bpf("BPF_BTF_LOAD", _BTF_LOAD, _BTF.pack(_address(held), 0, len(text), 0, 0))


def load_program(name: str, instructions: bytes, kind: ProgramType, hook: AttachType | None = None) -> int:
    """Load a program, whose instructions contain descriptors of maps; return its descriptor.

    Raises:
        OSError: the kernel refused it.
    """
    try:
        return _load(name, instructions, kind, hook, None)
    except OSError as error:
        log = ctypes.create_string_buffer(_LONGEST_LOG)
        with suppress(OSError):
            return _load(name, instructions, kind, hook, log)
        said = log.value.decode(errors="replace").splitlines()[-_LAST_LINES:]
        raise OSError(error.errno, "; ".join([error.strerror or "", *said])) from error


def _load(
    name: str, instructions: bytes, kind: ProgramType, hook: AttachType | None, log: ctypes.Array[ctypes.c_char] | None
) -> int:
    """Load a program; `log` receives the steps of the verifier, of which it has room for the first."""
    code, license_text = ctypes.c_char_p(instructions), ctypes.c_char_p(_LICENSE)
    count = len(instructions) // _INSTRUCTION
    logged = (1, len(log), ctypes.addressof(log)) if log else (0, 0, 0)
    start = (kind, count, _address(code), _address(license_text), *logged)
    attributes = _PROGRAM.pack(*start, 0, 0, _short(name), 0, hook or 0)
    for _ in range(_INTERRUPTIONS):
        with suppress(BlockingIOError):
            return _bpf("BPF_PROG_LOAD", _PROG_LOAD, attributes)
    return _bpf("BPF_PROG_LOAD", _PROG_LOAD, attributes)


def attach_raw_tracepoint(program: int, name: str) -> int:
    """Attach a program to a raw tracepoint; return the descriptor that keeps it attached.

    Raises:
        OSError: the kernel refused it.
    """
    text = ctypes.c_char_p(name.encode())
    return _bpf("BPF_RAW_TRACEPOINT_OPEN", _TRACEPOINT_OPEN, _TRACEPOINT.pack(_address(text), program))


def link_cgroup(program: int, cgroup: int, attach_type: int) -> int:
    """Attach a program to a hook of a cgroup and of all cgroups below it; return the descriptor of the link.

    Raises:
        OSError: the kernel refused it.
    """
    return _bpf("BPF_LINK_CREATE", _LINK_CREATE, _HEAD.pack(program, cgroup, attach_type, 0))


def attach_cgroup(program: int, cgroup: int, attach_type: int) -> None:
    """Attach a program to a hook of a cgroup and of all cgroups below it, for as long as the cgroup exists.

    Raises:
        OSError: the kernel refused it.
    """
    _bpf("BPF_PROG_ATTACH", _PROG_ATTACH, _HEAD.pack(cgroup, program, attach_type, _ALLOW_MULTI))


def link_uprobe(program: int, path: str, offset: int, *, returns: bool, pid: int = 0) -> int:
    """Attach a program to the entry or (`returns`) the return of the function at an offset in a file.

    It runs in the process `pid`, or (0) in every process that maps the file. Return the descriptor of the link.

    Raises:
        OSError: the kernel refused it.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    offsets = (ctypes.c_uint64 * 1)(offset)
    flags = _UPROBE_RETURN if returns else 0
    where = _UPROBE.pack(ctypes.addressof(name), ctypes.addressof(offsets), 0, 0, len(offsets), flags, pid)
    head = _HEAD.pack(program, 0, AttachType.TRACE_UPROBE_MULTI, 0)
    return _bpf("BPF_LINK_CREATE", _LINK_CREATE, head + where)


def look_up(map_fd: int, key: bytes, size: int) -> bytes:
    """Return the value of a key in a map; the values of the map have this size.

    Raises:
        OSError: the map has no such key, or cannot be read.
    """
    value = ctypes.create_string_buffer(size)
    _bpf("BPF_MAP_LOOKUP_ELEM", _LOOKUP, _element(map_fd, key, ctypes.addressof(value), 0))
    return value.raw


def update(map_fd: int, key: bytes, value: bytes, flags: int = ANY) -> None:
    """Add an entry to a map, or (ANY) replace it. Key and value have the sizes of the map.

    Raises:
        OSError: the map is full, has the entry already (NOEXIST), or cannot be written.
    """
    text = ctypes.c_char_p(value)
    _bpf("BPF_MAP_UPDATE_ELEM", _UPDATE, _element(map_fd, key, _address(text), flags))


def delete(map_fd: int, key: bytes) -> None:
    """Remove an entry from a map.

    Raises:
        OSError: the map has no such key, or cannot be written.
    """
    _bpf("BPF_MAP_DELETE_ELEM", _DELETE, _element(map_fd, key, 0, 0))


def read_batch(map_fd: int, keys: Any, values: Any, *, take: bool) -> int:
    """Read entries of a map into arrays of equal length, and (`take`, of a hash map) remove them; return how many.

    Raises:
        OSError: the map cannot be read.
    """
    place = ctypes.c_uint32()
    where = (ctypes.addressof(each) for each in (place, keys, values))
    attributes = ctypes.create_string_buffer(_BATCH.pack(0, *where, len(keys), map_fd, 0, 0), _SIZE)
    name, command = ("LOOKUP_AND_DELETE", _TAKE_BATCH) if take else ("LOOKUP", _LOOKUP_BATCH)
    try:
        _call(f"BPF_MAP_{name}_BATCH", command, attributes)
    except OSError as error:
        if error.errno != errno.ENOENT:  # ENOENT: these are all
            raise
    (count,) = _COUNT.unpack_from(attributes)
    return int(count)


def _element(map_fd: int, key: bytes, value: int, flags: int) -> bytes:
    # The caller holds `key`, so that its memory stays until the system call has returned.
    return _ELEMENT.pack(map_fd, _address(ctypes.c_char_p(key)), value, flags)


def _address(text: ctypes.c_char_p) -> int:
    """Return the address of bytes, which are to be kept meanwhile."""
    return ctypes.cast(text, ctypes.c_void_p).value or 0


def _short(name: str) -> bytes:
    return name.encode()[:_LONGEST_NAME]


def _bpf(name: str, command: int, attributes: bytes) -> int:
    return _call(name, command, ctypes.create_string_buffer(attributes, _SIZE))


def _call(name: str, command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    if _SYS_BPF is None:
        raise OSError(f"unknown machine {platform.machine()}")
    return system_call(name, _SYS_BPF, command, attributes, _SIZE)
