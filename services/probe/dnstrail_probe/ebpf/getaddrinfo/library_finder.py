"""Finds the C libraries of running processes and of starting containers, and watches them."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from dnstrail_probe.ebpf.getaddrinfo.c_library import c_libraries, usual_libraries
from dnstrail_probe.ebpf.getaddrinfo.uprobes import UprobeTable
from dnstrail_probe.host.process_root import Identity, identity, open_root
from dnstrail_probe.host.procfs import process_ids
from dnstrail_probe.host.user_behind import real_user

_AGAIN = 1.0  # seconds after which a program is examined again: its library can have been replaced
_REMEMBERED = 4096  # programs
_START = 5.0  # seconds for which a starting container is polled
_POLL = 0.002  # seconds between two polls of starting containers
_MOST_STARTING = 64
_SWEEP = 2.0  # seconds between two sweeps for libraries that no process uses any more

_Examined = tuple[Identity, Identity, int]  # program, root and user: the library of one user can have found no room


class LibraryFinder:
    """The programs that were examined, and the containers that are starting.

    The files are untrusted, and their file system can hang: the finder must run in a thread of its own. Every table is
    bounded. Times are seconds of a clock that never steps, and come with the calls. `processes` lists the processes of
    the host.
    """

    def __init__(
        self, files: UprobeTable, counters: Counter[str], processes: Callable[[], Iterable[int]] = process_ids
    ) -> None:
        self._files = files
        self._counters = counters
        self._processes = processes
        self._examined: OrderedDict[_Examined, float] = OrderedDict()  # -> time
        self._starting: dict[str, float] = {}  # cgroup of a starting container -> time at which polling ends
        self._host = _host_root()
        self._incomplete = False
        self._polled = self._swept = float("-inf")

    @property
    def wait(self) -> float:
        """The seconds after which `advance` must be called again."""
        return _POLL if self._starting else _SWEEP

    def examine_all(self, now: float) -> None:
        """Watch the libraries of all processes."""
        for pid in self._processes():
            self.examine(pid, now)

    def examine(self, pid: int, now: float) -> None:
        """Watch the library of a process, if its program was not examined just now."""
        self._guarded(partial(self._watch_named, pid, now))

    def expect_container(self, cgroup: str, now: float) -> None:
        """Watch the library of a container before its first program runs.

        The process of a starting container has the container's root for a moment before it executes the program, so the
        cgroup is polled for such a process.
        """
        if len(self._starting) < _MOST_STARTING:
            self._starting[cgroup] = now + _START

    def examine_all_later(self) -> None:
        """Let the next sweep examine all processes: some were not reported."""
        self._incomplete = True

    def advance(self, now: float) -> None:
        """Poll starting containers, and sweep, where it is time for that."""
        if now - self._polled >= _POLL:
            self._polled = now
            self._poll_starting(now)
        if now - self._swept >= _SWEEP:
            self._swept = now
            self._sweep(now)

    def _poll_starting(self, now: float) -> None:
        for cgroup, until in list(self._starting.items()):
            if self._has_started(cgroup) or now > until:
                del self._starting[cgroup]

    def _has_started(self, cgroup: str) -> bool:
        """Return true if a process of the cgroup has a root of its own and was examined, or if the cgroup is gone."""
        try:
            processes = Path(cgroup, "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return True
        return any(self._guarded(partial(self._watch_usual, int(pid))) for pid in processes)

    def _guarded(self, watch: Callable[[], bool]) -> bool:
        try:
            return watch()
        except OSError:  # the process has ended, or this user may not read it
            return False
        except Exception:  # noqa: BLE001 - no file may stop the search for other libraries
            self._counters["libraries_refused"] += 1
            return False

    def _watch_usual(self, pid: int) -> bool:
        """Watch the libraries in the usual places below the root of a process; return false if it is the host's."""
        with open_root(pid) as directory:
            root = identity(os.fstat(directory))
            if root == self._host:
                return False
            for file in usual_libraries(directory):
                self._files.watch(pid, file, root)
            return True

    def _watch_named(self, pid: int, now: float) -> bool:
        """Watch the libraries that the program of a process names; return false if it was examined just now."""
        with open_root(pid) as directory:
            root = identity(os.fstat(directory))
            examined = identity(Path(f"/proc/{pid}/exe").stat()), root, real_user(pid)
            if now - self._examined.get(examined, float("-inf")) < _AGAIN:
                return False
            for file in c_libraries(pid, directory):
                self._files.watch(pid, file, root)
            self._examined[examined] = now
            self._examined.move_to_end(examined)
            if len(self._examined) > _REMEMBERED:
                self._examined.popitem(last=False)
        return True

    def _sweep(self, now: float) -> None:
        if self._incomplete:
            self._incomplete = False
            self.examine_all(now)
        roots = set()
        for pid in self._processes():
            with suppress(OSError), open_root(pid) as directory:
                roots.add(identity(os.fstat(directory)))
        self._files.keep(roots)


def _host_root() -> Identity:
    """Return the root of the host, also if this process has another root."""
    try:
        with open_root(1) as directory:
            return identity(os.fstat(directory))
    except OSError:
        return identity(Path("/").stat())
