"""The container that a cgroup belongs to: a table fed by the creation and removal of cgroups."""

from __future__ import annotations

import re
from collections import OrderedDict, deque

REMEMBERED = 60_000_000_000  # ns for which a removed cgroup is kept
MAX_CGROUPS = 65536
# Docker: <id>; containerd: cri-containerd-<id>.scope; CRI-O: crio-<id>.scope; Podman: libpod-<id>.scope.
_ID = re.compile("[0-9a-f]{64}")


def container_id(path: str) -> str:
    """Return the innermost container of a cgroup by the path of the cgroup; "" on the host."""
    found = _ID.findall(path)
    return found[-1] if found else ""


class Containers:
    """The cgroups of this host, and the container of each.

    Times (ns) come with the events, so the table reads no clock. It never holds more than `most` cgroups: beyond that
    it evicts the oldest and counts the eviction in `dropped`.
    """

    def __init__(self, most: int = MAX_CGROUPS) -> None:
        self.dropped = 0
        self._most = most
        self._ids: OrderedDict[int, str] = OrderedDict()
        self._removed: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._ids)

    def of(self, cgroup: int) -> str | None:
        """Return the container of a cgroup, "" on the host; None if the cgroup is unknown."""
        return self._ids.get(cgroup)

    def made(self, cgroup: int, path: str) -> str:
        """Add a cgroup; return its container."""
        found = self._ids[cgroup] = container_id(path)
        while len(self._ids) > self._most:
            self._ids.popitem(last=False)
            self.dropped += 1
        return found

    def removed(self, cgroup: int, stamp: int) -> None:
        """Remove a cgroup, after a minute; the kernel does not reuse its id."""
        self._removed.append((stamp, cgroup))
        while self._removed and (self._removed[0][0] < stamp - REMEMBERED or len(self._removed) > self._most):
            self._ids.pop(self._removed.popleft()[1], None)
