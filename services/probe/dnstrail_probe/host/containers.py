"""The cgroups of this host, and the container of each: a table fed by their creation and removal."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from dnstrail_probe.host.cgroups import is_roots
from dnstrail_probe.host.container_path import container_id

REMEMBERED = 60_000_000_000  # ns for which a removed cgroup is kept
MAX_CGROUPS = 65536
MAX_PATH = 100  # characters of a path that are kept


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


class Cgroup(NamedTuple):
    """The container of a cgroup, "" on the host, and the beginning of its path."""

    container: str
    path: str


class Containers:
    """The cgroups of this host, and the container of each.

    Times (ns) come with the events, so the table reads no clock. It never holds more than `most` cgroups: beyond that
    it evicts the oldest and counts the eviction in `dropped`. `is_roots` returns true for a folder of the hierarchy in
    which only root can make cgroups.
    """

    def __init__(self, is_roots: Callable[[str], bool], most: int = MAX_CGROUPS) -> None:
        self.dropped = 0
        self._is_roots = is_roots
        self._most = most
        self._cgroups: OrderedDict[int, Cgroup] = OrderedDict()
        self._removed: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._cgroups)

    def of(self, cgroup: int) -> str | None:
        """Return the container of a cgroup, "" on the host; None if the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        return found.container if found else None

    def path(self, cgroup: int) -> str:
        """Return the beginning of the path of a cgroup; "" if the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        return found.path if found else ""

    def made(self, cgroup: int, path: str) -> str:
        """Add a cgroup; return its container."""
        found = self._cgroups[cgroup] = Cgroup(container_id(path, self._is_roots), path[:MAX_PATH])
        while len(self._cgroups) > self._most:
            self._cgroups.popitem(last=False)
            self.dropped += 1
        return found.container

    def removed(self, cgroup: int, stamp: int) -> None:
        """Remove a cgroup, after a minute; the kernel does not reuse its id."""
        self._removed.append((stamp, cgroup))
        while self._removed and (self._removed[0][0] < stamp - REMEMBERED or len(self._removed) > self._most):
            self._cgroups.pop(self._removed.popleft()[1], None)
