"""The root directory of a process, below which files are opened (openat2(2)), and the user behind a process."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnstrail.kernel.libc import system_call

_GET_PARENT, _GET_OWNER = 0xB702, 0xB704  # NS_GET_PARENT, NS_GET_OWNER_UID
_USER = struct.Struct("@I")
_SYS_OPENAT2 = 437  # on every machine; Linux 5.6
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _IN_ROOT = 0x01, 0x02, 0x04, 0x08, 0x10  # RESOLVE_...
LINKS_BELOW = _IN_ROOT | _NO_MAGICLINKS  # links lead below the root, as for a process with this root
NO_LINKS = _BENEATH | _NO_SYMLINKS | _NO_XDEV  # no link is followed, and no mount: its file system could hang
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
def open_below(root: int, path: str, resolve: int = LINKS_BELOW, flags: int = 0) -> Iterator[int]:
    """Open a regular file below a root for reading. Devices and pipes are never opened.

    `flags` are further ones of open(2).

    Raises:
        OSError: there is no regular file, or this user may not read it.
    """
    packed = struct.pack("=3Q", os.O_PATH | os.O_CLOEXEC, 0, resolve)
    name, how = ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(packed)
    found = system_call("openat2", _SYS_OPENAT2, root, name, how, len(packed))
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise FileNotFoundError(f"{path} is no regular file")
        file = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | flags)
    finally:
        os.close(found)
    try:
        yield file
    finally:
        os.close(file)


def user_behind(pid: int) -> int:
    """Return the user of a process, and in a user namespace the owner of the outermost one.

    A user can have thousands of user ids below a user namespace. The real user id counts: with a setuid program a user
    becomes nobody else.

    Raises:
        OSError: the process has ended, or this user may not read it.
    """
    user, here = real_user(pid), Path("/proc/self/ns/user").stat().st_ino
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.fstat(namespace).st_ino != here:
            (user,) = _USER.unpack(fcntl.ioctl(namespace, _GET_OWNER, bytes(_USER.size)))
            inner, namespace = namespace, fcntl.ioctl(namespace, _GET_PARENT)
            os.close(inner)
    finally:
        os.close(namespace)
    return user


def real_user(pid: int) -> int:
    """Return the real user id of a process. The owner of its folder in /proc can be root instead (PR_SET_DUMPABLE).

    Raises:
        OSError: the process has ended.
    """
    status = Path(f"/proc/{pid}/status").read_text(errors="backslashreplace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:"))
