"""The cgroup of a command and of all that it starts (cgroups(7))."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.cgroups import cgroups, find_cgroup2

_PREFIX = "dnstrail-run-"  # of the name, before the process that made the cgroup
_PROCESSES = "cgroup.procs"
_FREEZING = 2.0  #: seconds to stop the processes of a command before a person is asked (`--ask`) -> the name is refused
_TURN = 0.002  # seconds between two looks
MOST_NAMED = 8  #: processes that outlive a command, named in its report -> the others are counted


class CommandCgroup:
    """A cgroup for one command, below the cgroup of this process, whose limits hold for the command as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.stat().st_ino

    def add(self, pid: int) -> None:
        """Move a process into the cgroup; what it starts from then on is in it, too."""
        (self.path / _PROCESSES).write_text(str(pid), encoding="ascii")

    def processes(self) -> list[int]:
        """Return the processes in the cgroup and below it."""
        found: list[int] = []
        for folder, _, _ in os.walk(self.path):
            with suppress(OSError):  # removed meanwhile
                found += map(int, (Path(folder) / _PROCESSES).read_text(encoding="ascii").split())
        return found

    @contextmanager
    def frozen(self) -> Iterator[bool]:
        """Stop all processes in the cgroup meanwhile; yield whether all have stopped."""
        freezer = self.open_freezer()
        try:
            os.write(freezer, b"1")
            end = time.monotonic() + _FREEZING
            while not (stopped := self._is_frozen()) and time.monotonic() < end:
                time.sleep(_TURN)
            yield stopped
        finally:
            continue_by(freezer)

    def open_freezer(self) -> int:
        """Return a descriptor for `continue_by`."""
        return os.open(self.path / "cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)

    def _is_frozen(self) -> bool:
        return "frozen 1" in (self.path / "cgroup.events").read_text(encoding="ascii").splitlines()

    def release(self) -> None:
        """Move the processes that are left to the cgroup above."""
        for pid in self.processes():
            with suppress(OSError):  # ended meanwhile
                (self.path.parent / _PROCESSES).write_text(str(pid), encoding="ascii")

    def remove(self) -> None:
        """Remove the cgroup, unless processes are left in it."""
        _remove(self.path)


def continue_by(freezer: int) -> None:
    """Let the processes of a cgroup continue, also without the rights that opened the descriptor; close it."""
    with suppress(OSError):  # the cgroup was removed
        os.write(freezer, b"0")
    os.close(freezer)


def names_of(processes: list[int]) -> list[str]:
    """Return the first MOST_NAMED processes as text: name(pid)."""
    found = []
    for pid in processes[:MOST_NAMED]:
        with suppress(OSError):  # ended meanwhile
            found.append(f"{Path(f'/proc/{pid}/comm').read_text(errors='backslashreplace').rstrip()}({pid})")
    return found


def make_cgroup(*, guarded: bool = False) -> CommandCgroup:
    """Make a cgroup for a command of this process; a `guarded` one only where root alone can move processes.

    Raises:
        SourceUnavailable: there is no cgroup2 hierarchy, or this process may not make one in it.
    """
    root = find_cgroup2()
    if root is None:
        raise SourceUnavailable("run", "no cgroup2 hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    above = _own_cgroup(Path(root))
    if guarded:
        above = _undelegated(above, Path(root))
    _remove_abandoned(above)
    path = above / f"{_PREFIX}{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        raise SourceUnavailable("run", f"cannot make the cgroup {path}: {error.strerror}", "run it as root") from error
    return CommandCgroup(path)


def cgroups_below(path: Path) -> set[int]:
    """Return the ids of the cgroups below a cgroup."""
    return {identity for identity, _ in cgroups(str(path))}


def _undelegated(cgroup: Path, root: Path) -> Path:
    """Return the nearest cgroup, this one or above it, that has no delegated one above it and is none."""
    ways = [cgroup, *cgroup.parents]
    delegated = [one for one in ways[: ways.index(root)] if _is_delegated(one)]
    return delegated[-1].parent if delegated else cgroup


def _is_delegated(cgroup: Path) -> bool:
    """Return whether another user than root may move processes within a cgroup, and so out of those below it."""
    found = (cgroup / _PROCESSES).stat()
    return found.st_uid != 0 or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _remove_abandoned(above: Path) -> None:
    """Remove the empty cgroups of runs that have ended: a run that was killed leaves its own."""
    for folder in above.glob(f"{_PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(_PREFIX)).exists():
            with suppress(OSError):  # removed meanwhile, by its run that has just ended, or by another one that begins
                abandoned = CommandCgroup(folder)
                continue_by(abandoned.open_freezer())  # its run may have been killed while it asked
            _remove(folder)


def _remove(path: Path) -> None:
    for folder, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):  # a process is left: the folder stays, and is empty later
            Path(folder).rmdir()


def _own_cgroup(root: Path) -> Path:
    """Return the cgroup of this process; the root of the hierarchy if it is not visible here."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.startswith("0::/"):
            own = root / line.removeprefix("0::/")
            return own if ".." not in own.parts and own.is_dir() else root
    return root
