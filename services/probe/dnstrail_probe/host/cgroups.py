"""The cgroup2 hierarchy of this host: where it is mounted, and which cgroups it has (cgroups(7))."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_MAGIC = 0x63677270  # CGROUP2_SUPER_MAGIC
# In a container its own part alone is at /sys/fs/cgroup: the host's, where it is mounted, comes first.
_MOUNTS = ("/host/cgroup", "/host/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def find_cgroup2() -> str | None:
    """The root of the cgroup2 hierarchy, alone or beside those of cgroup v1."""
    return next((path for path in _MOUNTS if _filesystem(path) == _MAGIC), None)


def cgroups(root: str) -> Iterator[tuple[int, str]]:
    """Every cgroup: its id, which is the inode of its folder, and its path below the root."""
    for folder, _, _ in os.walk(root):
        try:
            yield Path(folder).stat().st_ino, folder.removeprefix(root) or "/"
        except OSError:  # it was removed meanwhile
            continue


def cgroup_id(root: str, path: str) -> int:
    """The id of a cgroup by its path below the root; 0 if there is none, or it is outside of our cgroup namespace."""
    if "/.." in path:
        return 0
    try:
        return Path(root + path).stat().st_ino
    except OSError:
        return 0


def _filesystem(path: str) -> int:
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with the type, a long
    if ctypes.CDLL(None).statfs(path.encode(), buffer) != 0:
        return 0
    return int(struct.unpack_from("@l", buffer)[0])
