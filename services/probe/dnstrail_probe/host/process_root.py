"""Opens files below the root directory of a process. No link leads outside (openat2(2))."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from dnstrail.kernel.libc import system_call

_SYS_OPENAT2 = 437  # on every machine; Linux 5.6
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_HOW = struct.pack("=3Q", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)

Identity = tuple[int, int]  # of a file: its device and inode


def identity(status: os.stat_result) -> Identity:
    """Return the identity of a file. All names of one file have the same identity."""
    return status.st_dev, status.st_ino


@contextmanager
def open_root(pid: int, proc: str = "/proc") -> Iterator[int]:
    """Open the root directory of a process; `proc` is where proc(5) is mounted.

    Raises:
        OSError: the process has ended, or this user may not read it.
    """
    root = os.open(f"{proc}/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def open_below(root: int, path: str) -> Iterator[int]:
    """Open a regular file below a root for reading. Devices and pipes are never opened.

    Raises:
        OSError: there is no regular file, or this user may not read it.
    """
    name, how = ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(_HOW)
    found = system_call("openat2", _SYS_OPENAT2, root, name, how, len(_HOW))
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise FileNotFoundError(f"{path} is no regular file")
        file = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        yield file
    finally:
        os.close(file)
