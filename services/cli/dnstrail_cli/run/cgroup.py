"""The cgroup of a command and of all that it starts (cgroups(7))."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.host.cgroups import find_cgroup2

_PROCESSES = "cgroup.procs"


class Cgroup:
    """A cgroup for one command, below the cgroup of this process, whose limits hold for the command as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.id = path.stat().st_ino

    def add(self, pid: int) -> None:
        """Move a process into the cgroup; what it starts from then on is in it, too."""
        (self._path / _PROCESSES).write_text(str(pid), encoding="ascii")

    def processes(self) -> list[int]:
        """Return the processes in the cgroup and below it."""
        found: list[int] = []
        for folder, _, _ in os.walk(self._path):
            with suppress(OSError):  # removed meanwhile
                found += map(int, (Path(folder) / _PROCESSES).read_text(encoding="ascii").split())
        return found

    def remove(self) -> None:
        """Move the processes that are left to the cgroup above, and remove the cgroup."""
        for pid in self.processes():
            with suppress(OSError):  # ended meanwhile
                (self._path.parent / _PROCESSES).write_text(str(pid), encoding="ascii")
        for folder, _, _ in os.walk(self._path, topdown=False):
            with suppress(OSError):  # a process was started meanwhile: the folder stays, and is empty later
                Path(folder).rmdir()


def make_cgroup(name: str) -> Cgroup:
    """Make a cgroup.

    Raises:
        SourceUnavailable: there is no cgroup2 hierarchy, or this process may not make one in it.
    """
    root = find_cgroup2()
    if root is None:
        raise SourceUnavailable("run", "no cgroup2 hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    path = _own_cgroup(Path(root)) / name
    try:
        path.mkdir()
    except OSError as error:
        raise SourceUnavailable("run", f"cannot make the cgroup {path}: {error.strerror}", "run it as root") from error
    return Cgroup(path)


def _own_cgroup(root: Path) -> Path:
    """Return the cgroup of this process; the root of the hierarchy if it is not visible here."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.startswith("0::/"):
            own = root / line.removeprefix("0::/")
            return own if ".." not in own.parts and own.is_dir() else root
    return root
