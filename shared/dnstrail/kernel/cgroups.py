"""The cgroup2 hierarchy of this host: its mount point, and its cgroups with their containers (cgroups(7))."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from dnstrail.kernel.libc import call, system_call

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAGIC = 0x63677270  # CGROUP2_SUPER_MAGIC
# A container has only its own part at /sys/fs/cgroup, so the mount of the host's hierarchy comes first.
_MOUNTS = ("/host/cgroup", "/host/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # on every machine; Linux 5.2
_CLOEXEC, _CREATE = 1, 6  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC, FSCONFIG_CMD_CREATE
_SLICES = r"(?:/[^/]+\.slice)*"
# The places in which the engines of root make cgroups: with systemd as the driver, and without (cgroupfs). Engines of
# other users make them below user@UID.service, in folders of that user.
_PLACES = (
    _SLICES + "/(?:docker|cri-containerd|crio|libpod|nerdctl)-",  # Docker, Kubernetes, Podman, nerdctl
    _SLICES + r"/[^/]+\.service/libpod-payload-",  # Podman in a unit (--cgroups=split, Quadlet)
    _SLICES + r"/containerd\.service/[^/]+:cri-containerd:",  # a kubelet with systemd, a containerd without
    "/docker/",
    "/libpod_parent/libpod-",
    "/kubepods(?:/burstable|/besteffort)?/pod[^/]+/(?:crio-)?",
)
_STEPS = (_SLICES + "/docker-", "/docker/buildkit/")  # of `docker build`: BuildKit has ids of its own
_CONTAINER = re.compile(
    rf"(?:(?:{'|'.join(_PLACES)})(?P<id>[0-9a-f]{{64}})|(?:{'|'.join(_STEPS)})(?P<step>[0-9a-z]{{25}}))(?:\.scope)?(?=/|\Z)"
)
# A container that Podman runs without root: its cgroup is at any place below the systemd of the user.
_OF_USER = re.compile(
    rf"(?P<manager>{_SLICES}/user@(?P<user>\d{{1,10}})\.service)(?:/[^/]+)*?"
    r"/libpod-(?:payload-)?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|\Z)",
    re.ASCII,
)
# The runtimes that can be asked for a name. CRI: containerd, CRI-O.
DOCKER, PODMAN, CRI, PODMAN_OF_USERS = "docker", "podman", "cri", "podman of users"
_RUNTIMES = (("docker-", DOCKER), ("libpod-", PODMAN), ("nerdctl-", ""))  # by the beginning of a folder's name
_USER = re.compile(r"/user\.slice/user-\d+\.slice(?=/|\Z)", re.ASCII)  # systemd: sessions and services of one user


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


def running_containers(root: str) -> set[str]:
    """Return the containers whose cgroups are in a hierarchy.

    Folders in which others than root can make cgroups are left out: no container counts there.
    """
    found = set()
    for folder, below, _ in os.walk(root):
        path = folder.removeprefix(root) or "/"
        container = container_id(path, partial(is_roots, root))
        found.add(container)
        if container or not is_roots(root, path):
            below.clear()
    return found - {""}


def container_id(path: str, is_roots: Callable[[str], bool]) -> str:
    """Return the id of the outermost container of a cgroup; "" on the host.

    `path` is below the root of the hierarchy. `is_roots` returns true for a folder in which only root can make cgroups.
    A container counts only if all folders above its own are such folders: otherwise a user can have chosen the name.
    """
    found = _CONTAINER.match(path)
    return str(found["id"] or found["step"]) if found and all(map(is_roots, folders_above(found[0]))) else ""


def container_of_user(path: str, is_roots: Callable[[str], bool]) -> tuple[int, str] | None:
    """Return user and id of the outermost container of Podman in a cgroup below the systemd of a user; None elsewhere.

    The user is certain if root made the folders above the systemd of the user. The user can have chosen the id.
    """
    found = _OF_USER.match(path)
    if found is None or not all(map(is_roots, folders_above(found["manager"]))):
        return None
    return int(found["user"]), str(found["id"])


def runtime_of(path: str) -> str:
    """Return the runtime of the outermost container of a cgroup: DOCKER, PODMAN, CRI, or "" for another one."""
    found = _CONTAINER.match(path)
    if found is None:
        return ""
    if found["step"]:  # BuildKit has no names
        return ""
    if path.startswith("/docker/"):
        return DOCKER
    name = found[0].rpartition("/")[2]
    return next((runtime for beginning, runtime in _RUNTIMES if name.startswith(beginning)), CRI)


def owner_path(path: str, is_roots: Callable[[str], bool]) -> str:
    """Return the path of the owner of a cgroup, which is the cgroup itself or a folder above it.

    The owner is the first of these from the root of the hierarchy down: the slice of a user; the folder of a container
    that root made; a folder in which others than root can make cgroups; the cgroup itself. So a user who makes cgroups
    makes no owners.
    """
    found = _USER.match(path) or _CONTAINER.match(path)
    named = str(found[0]) if found else path
    return next((folder for folder in [*folders_above(named)][::-1] if not is_roots(folder)), named)


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders above a folder, the innermost first."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


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
