"""Files as a process sees them: below its root and never outside of it, whatever its links say (openat2(2))."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_SYS_OPENAT2 = 437  # on every machine; Linux 5.6
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_HOW = struct.pack("=3Q", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)

Identity = tuple[int, int]  # of a file: its device and inode


def identity(status: os.stat_result) -> Identity:
    """What a file is, by whatever name."""
    return status.st_dev, status.st_ino


@contextmanager
def open_root(pid: int) -> Iterator[int]:
    """The root directory of a process. Raises OSError: it has ended, or its files are not ours to see."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def open_below(root: int, path: str) -> Iterator[int]:
    """A regular file below a root, to read. Raises OSError: there is none, or it is not ours to read.

    Whatever else is there, a device or a pipe, is not touched.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_SYS_OPENAT2, root, ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(_HOW), len(_HOW)))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
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
