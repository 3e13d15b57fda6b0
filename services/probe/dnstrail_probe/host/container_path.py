"""The container and the owner that the path of a cgroup names, where no user can choose the name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

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
_USER = re.compile(r"/user\.slice/user-\d+\.slice(?=/|\Z)", re.ASCII)  # systemd: sessions and services of one user


def container_id(path: str, is_roots: Callable[[str], bool]) -> str:
    """Return the id of the outermost container of a cgroup; "" on the host.

    `path` is below the root of the hierarchy. `is_roots` returns true for a folder in which only root can make cgroups.
    A container counts only if all folders above its own are such folders: otherwise a user can have chosen the name.
    """
    found = _CONTAINER.match(path)
    return str(found["id"] or found["step"]) if found and all(map(is_roots, _above(found[0]))) else ""


def owner_path(path: str, is_roots: Callable[[str], bool]) -> str:
    """Return the path of the owner of a cgroup, which is the cgroup itself or a folder above it.

    The owner is the first of these from the root of the hierarchy down: the slice of a user; the folder of a container
    that root made; a folder in which others than root can make cgroups; the cgroup itself. So a user who makes cgroups
    makes no owners.
    """
    found = _USER.match(path) or _CONTAINER.match(path)
    named = str(found[0]) if found else path
    return next((folder for folder in [*_above(named)][::-1] if not is_roots(folder)), named)


def _above(path: str) -> Iterator[str]:
    """Yield the folders above a folder, the innermost first."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path
