"""The cgroup2 hierarchy of this host: its mount point and its cgroups (cgroups(7))."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from dnstrail.libc import call

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAGIC = 0x63677270  # CGROUP2_SUPER_MAGIC
# A container has only its own part at /sys/fs/cgroup, so the mount of the host's hierarchy comes first.
_MOUNTS = ("/host/cgroup", "/host/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def find_cgroup2() -> str | None:
    """Return the mount point of the cgroup2 hierarchy, alone or together with cgroup v1; None if it is not mounted."""
    return next((path for path in _MOUNTS if _filesystem(path) == _MAGIC), None)


def cgroups(root: str) -> Iterator[tuple[int, str]]:
    """Yield every cgroup: its id, which is the inode of its folder, and its path below the root."""
    for folder, _, _ in os.walk(root):
        try:
            yield Path(folder).stat().st_ino, folder.removeprefix(root) or "/"
        except OSError:  # removed meanwhile
            continue


def cgroup_id(root: str, path: str) -> int:
    """Return the id of a cgroup by its path below the root; 0 if it is not there, or not in this cgroup namespace."""
    if "/.." in path:
        return 0
    try:
        return Path(root + path).stat().st_ino
    except OSError:
        return 0


def is_roots(root: str, path: str) -> bool:
    """Return true if only the user root can make cgroups in a cgroup, given by its path below the root."""
    try:
        status = Path(root + path).stat()
    except OSError:
        return False
    return status.st_uid == 0 and not status.st_mode & _OTHERS_WRITE


def _filesystem(path: str) -> int:
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with the type, a long
    try:
        call("statfs", path.encode(), buffer)
    except OSError:  # not there
        return 0
    return int(struct.unpack_from("@l", buffer)[0])
