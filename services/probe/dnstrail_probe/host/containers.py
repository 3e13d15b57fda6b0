"""Which container a cgroup belongs to: a table fed by cgroups that are made and removed."""

from __future__ import annotations

import re
from collections import OrderedDict, deque

REMEMBERED = 60_000_000_000  # ns for which a cgroup that was removed is remembered
MAX_CGROUPS = 65536
# Docker: <id>; containerd: cri-containerd-<id>.scope; CRI-O: crio-<id>.scope; Podman: libpod-<id>.scope.
_ID = re.compile("[0-9a-f]{64}")


def container_id(path: str) -> str:
    """The container of a cgroup by its path, the innermost one; "" on the host."""
    found = _ID.findall(path)
    return found[-1] if found else ""


class Containers:
    """The cgroups of this host, and the container of each. Plain data: stamps (ns) come with events.

    `most` bounds them: those known longest go first; `dropped` counts them.
    """

    def __init__(self, most: int = MAX_CGROUPS) -> None:
        self.dropped = 0
        self._most = most
        self._ids: OrderedDict[int, str] = OrderedDict()
        self._removed: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._ids)

    def of(self, cgroup: int) -> str | None:
        """The container of a cgroup, "" on the host; None if the cgroup is not known."""
        return self._ids.get(cgroup)

    def made(self, cgroup: int, path: str) -> str:
        """A cgroup was made, or found; its container."""
        found = self._ids[cgroup] = container_id(path)
        while len(self._ids) > self._most:
            self._ids.popitem(last=False)
            self.dropped += 1
        return found

    def removed(self, cgroup: int, stamp: int) -> None:
        """A cgroup was removed; ids are not used again."""
        self._removed.append((stamp, cgroup))
        while self._removed and (self._removed[0][0] < stamp - REMEMBERED or len(self._removed) > self._most):
            self._ids.pop(self._removed.popleft()[1], None)
