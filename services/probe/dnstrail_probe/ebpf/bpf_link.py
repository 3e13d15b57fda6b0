"""Programs put in their places by BPF_LINK_CREATE (bpf(2)), and taken off with the descriptors that it gives.

So nothing stays behind a killed process, unlike with BPF_PROG_ATTACH, and with the named events of tracefs, by which
bcc attaches uprobes where it can do no better.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

UPROBE_MULTI = 48  # BPF_TRACE_UPROBE_MULTI; Linux 6.6
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_LINK_CREATE = 28
_UPROBE_RETURN = 1
_HEAD = struct.Struct("=4I")
_UPROBE = struct.Struct("=4Q3I")
_SIZE = 64


def link_cgroup(program: int, cgroup: int, attach_type: int) -> int:
    """Run a program at a hook of a cgroup, and of all below it; gives a descriptor. Raises OSError."""
    return _create(_HEAD.pack(program, cgroup, attach_type, 0))


def link_uprobe(program: int, path: str, offset: int, *, returns: bool, pid: int = 0) -> int:
    """Run a program where the function at a place in a file is called, or returns; gives a descriptor.

    In the process `pid`, or (0) in every one that maps the file. Raises OSError: the kernel refused it.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    offsets = (ctypes.c_uint64 * 1)(offset)
    flags = _UPROBE_RETURN if returns else 0
    where = _UPROBE.pack(ctypes.addressof(name), ctypes.addressof(offsets), 0, 0, len(offsets), flags, pid)
    return _create(_HEAD.pack(program, 0, UPROBE_MULTI, 0) + where)


def _create(attributes: bytes) -> int:
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(f"unknown machine {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    created = int(libc.syscall(number, _LINK_CREATE, ctypes.c_char_p(attributes.ljust(_SIZE, b"\0")), _SIZE))
    if created < 0:
        raise OSError(ctypes.get_errno(), f"BPF_LINK_CREATE: {os.strerror(ctypes.get_errno())}")
    return created
