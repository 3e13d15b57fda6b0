"""The cgroup2 hierarchy of this host: its mount point and its cgroups (cgroups(7))."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dnstrail.libc import call, system_call

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAGIC = 0x63677270  # CGROUP2_SUPER_MAGIC
# A container has only its own part at /sys/fs/cgroup, so the mount of the host's hierarchy comes first.
_MOUNTS = ("/host/cgroup", "/host/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # on every machine; Linux 5.2
_CLOEXEC, _CREATE = 1, 6  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC, FSCONFIG_CMD_CREATE


def find_cgroup2() -> str | None:
    """Return a path to the cgroup2 hierarchy, which may be mounted together with cgroup v1; None if there is none.

    A hierarchy without a mount point here gets one that this process and its forks alone can use: `ip netns exec` hides
    the usual ones by a /sys of its own. This needs CAP_SYS_ADMIN.
    """
    return next((path for path in _MOUNTS if _filesystem(path) == _MAGIC), None) or _own_mount()


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


@cache
def _own_mount() -> str | None:
    """Mount the hierarchy at no place (fsmount(2)); return the path of its descriptor, None without the rights."""
    try:
        context = system_call("fsopen", _SYS_FSOPEN, ctypes.c_char_p(b"cgroup2"), _CLOEXEC)
        try:
            system_call("fsconfig", _SYS_FSCONFIG, context, _CREATE, None, None, 0)
            return f"/proc/self/fd/{system_call('fsmount', _SYS_FSMOUNT, context, _CLOEXEC, 0)}"
        finally:
            os.close(context)
    except OSError:
        return None


def _filesystem(path: str) -> int:
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with the type, a long
    try:
        call("statfs", path.encode(), buffer)
    except OSError:  # not there
        return 0
    return int(struct.unpack_from("@l", buffer)[0])
