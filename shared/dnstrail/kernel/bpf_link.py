"""Attaches programs with BPF_LINK_CREATE (bpf(2)).

The kernel detaches a program when its link descriptor is closed, also after a kill. BPF_PROG_ATTACH, and the named
events of tracefs through which bcc attaches uprobes, leave programs attached after a crash.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from dnstrail.kernel.libc import system_call

UPROBE_MULTI = 48  # BPF_TRACE_UPROBE_MULTI; Linux 6.6
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_LINK_CREATE = 28
_UPROBE_RETURN = 1
_HEAD = struct.Struct("=4I")
_UPROBE = struct.Struct("=4Q3I")
_SIZE = 64


def link_cgroup(program: int, cgroup: int, attach_type: int) -> int:
    """Attach a program to a hook of a cgroup and of all cgroups below it; return the descriptor of the link.

    Raises:
        OSError: the kernel refused it.
    """
    return _create(_HEAD.pack(program, cgroup, attach_type, 0))


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
    return _create(_HEAD.pack(program, 0, UPROBE_MULTI, 0) + where)


def _create(attributes: bytes) -> int:
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(f"unknown machine {platform.machine()}")
    padded = ctypes.c_char_p(attributes.ljust(_SIZE, b"\0"))
    return system_call("BPF_LINK_CREATE", number, _LINK_CREATE, padded, _SIZE)
