"""The user who is behind a process, whatever user ids the process has in user namespaces (ioctl_ns(2))."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

_GET_PARENT, _GET_OWNER = 0xB702, 0xB704  # NS_GET_PARENT, NS_GET_OWNER_UID
_USER = struct.Struct("@I")


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
