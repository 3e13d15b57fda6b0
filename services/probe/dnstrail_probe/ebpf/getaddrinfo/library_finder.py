"""The C libraries of this host, those in containers too, found by the processes that run and by those that begin.

In a thread, for files may be anybody's, and of a file system that does not answer.
"""

from __future__ import annotations

import os
import queue
import resource
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dnstrail.process.privileges import keep_capabilities
from dnstrail_probe.ebpf.getaddrinfo.c_library import c_libraries, usual_libraries
from dnstrail_probe.ebpf.getaddrinfo.process_root import Identity, identity, open_root
from dnstrail_probe.ebpf.getaddrinfo.uprobes import MOST_FILES, UprobeTable, Watch
from dnstrail_probe.host.procfs import process_ids

COUNTERS = ("libraries_watched", "libraries_refused", "libraries_dropped", "starts_dropped")
_WAITING = 4096  # processes that may wait to be looked at
_AGAIN = 1.0  # seconds until what a process runs is looked at once more: its library may be a new one by then
_REMEMBERED = 4096  # programs
_START = 5.0  # seconds for which a container that starts is looked at
_SOON = 0.002  # seconds between two of these looks
_MOST_STARTING = 64
_SWEEP = 2.0  # seconds between looks for libraries that nobody uses any more
_DESCRIPTORS = 1024  # beside those of libraries
_PATIENCE = 5.0  # seconds for all processes that run already, and for the end


class LibraryFinder:
    """Watches all libraries there are, and those that come, by `watch(file, offset)`, which gives descriptors.

    Counts as WatchedFiles does, and `starts_dropped`: what began too fast to be looked at; all are looked at then.
    """

    def __init__(self, watch: Watch, counters: Counter[str], capabilities: tuple[str, ...]) -> None:
        _make_room()
        self._capabilities = capabilities  # that its thread keeps
        self._counters = counters
        counters.update(dict.fromkeys(COUNTERS, 0))  # no new keys from the thread
        self._closed, self._dropped, self._all_looked_at = threading.Event(), threading.Event(), threading.Event()
        self._files = UprobeTable(watch, counters, self._closed)
        self._looked: OrderedDict[tuple[Identity, Identity], float] = OrderedDict()
        self._begun: queue.Queue[int | str | None] = queue.Queue(_WAITING)
        self._starting: dict[str, float] = {}  # cgroups in which containers start, and for how long to look there
        self._host = _host_root()
        self._thread = threading.Thread(target=self._work, name="C libraries", daemon=True)
        self._thread.start()
        self._all_looked_at.wait(_PATIENCE)

    def look(self, pid: int) -> None:
        """A process has begun to run something: it may bring a library that is not watched yet."""
        self._put(pid)

    def look_into(self, cgroup: str) -> None:
        """A container will start in a cgroup: its library can be watched before its first program runs.

        For a moment its process has the container's root already, and waits to be told to begin.
        """
        self._put(cgroup)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        with suppress(queue.Full):
            self._begun.put_nowait(None)  # so that it wakes
        self._thread.join(_PATIENCE)

    def _put(self, begun: int | str) -> None:
        try:
            self._begun.put_nowait(begun)
        except queue.Full:
            self._counters["starts_dropped"] += 1
            self._dropped.set()

    def _work(self) -> None:
        keep_capabilities(*self._capabilities)
        self._look_at_all()
        self._all_looked_at.set()
        swept = looked = time.monotonic()
        while not self._closed.is_set():
            with suppress(queue.Empty):
                self._take(self._begun.get(timeout=_SOON if self._starting else _SWEEP))
            now = time.monotonic()
            if now - looked >= _SOON:
                self._look_into_starting(now)
                looked = now
            if now - swept >= _SWEEP:
                self._sweep()
                swept = now
        self._files.close()

    def _take(self, begun: int | str | None) -> None:
        if isinstance(begun, int):
            self._look(begun, self._watch_own)
        elif begun and len(self._starting) < _MOST_STARTING:
            self._starting[begun] = time.monotonic() + _START

    def _look_at_all(self) -> None:
        for pid in process_ids():
            self._look(pid, self._watch_own)

    def _look_into_starting(self, now: float) -> None:
        for cgroup, until in list(self._starting.items()):
            if self._has_root(cgroup) or now > until:
                del self._starting[cgroup]

    def _has_root(self, cgroup: str) -> bool:
        """Whether a process of a cgroup has a root of its own by now, and was looked at; or the cgroup is gone."""
        try:
            processes = Path(cgroup, "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return True
        return any(self._look(int(pid), self._watch_usual) for pid in processes)

    def _look(self, pid: int, watch: Callable[[int], bool]) -> bool:
        """Watch the library of a process, and say whether; one that has ended, or is not ours to see, has none."""
        try:
            return watch(pid)
        except OSError:
            return False
        except Exception:  # noqa: BLE001 - whatever a stranger's file has done, the others must be watched
            self._counters["libraries_refused"] += 1
            return False

    def _watch_usual(self, pid: int) -> bool:
        """Those in usual places below the root of a process, if that is not the host's."""
        with open_root(pid) as directory:
            root = identity(os.fstat(directory))
            if root == self._host:
                return False
            for file in usual_libraries(directory):
                self._files.take(pid, file, root)
            return True

    def _watch_own(self, pid: int) -> bool:
        """Those that the program of a process names, if that was not looked at just now."""
        with open_root(pid) as directory:
            program, root = identity(Path(f"/proc/{pid}/exe").stat()), identity(os.fstat(directory))
            now = time.monotonic()
            if now - self._looked.get((program, root), float("-inf")) < _AGAIN:
                return False
            for file in c_libraries(pid, directory):
                self._files.take(pid, file, root)
            self._looked[program, root] = now
            self._looked.move_to_end((program, root))
            if len(self._looked) > _REMEMBERED:
                self._looked.popitem(last=False)
        return True

    def _sweep(self) -> None:
        if self._dropped.is_set():
            self._dropped.clear()
            self._look_at_all()
        roots = set()
        for pid in process_ids():
            with suppress(OSError), open_root(pid) as directory:
                roots.add(identity(os.fstat(directory)))
        self._files.keep(roots)


def _host_root() -> Identity:
    """The root of the host, also where this process has another one."""
    try:
        with open_root(1) as directory:
            return identity(os.fstat(directory))
    except OSError:
        return identity(Path("/").stat())


def _make_room() -> None:
    """Let this process have the descriptors, two for each file, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = max(soft, 2 * MOST_FILES + _DESCRIPTORS)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
