"""The C libraries of this host, those in containers too: in each, calls of getaddrinfo are watched while it is in use.

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
from functools import partial
from pathlib import Path

from dnstrail.capabilities import keep_capabilities
from dnstrail_probe.c_library import c_libraries
from dnstrail_probe.elf import function_offset
from dnstrail_probe.overlay import open_layer
from dnstrail_probe.process_root import Identity, identity, open_root
from dnstrail_probe.procfs import process_ids

CAPABILITIES = ("CAP_BPF", "CAP_SYS_PTRACE")
FUNCTION = "getaddrinfo"
COUNTERS = ("libraries_watched", "libraries_refused", "libraries_dropped", "starts_dropped")
MOST_FILES = 1024  # libraries, and the loaders beside them
_WAITING = 4096  # processes that may wait to be looked at
_AGAIN = 1.0  # seconds until what a process runs is looked at once more: its library may be a new one by then
_REMEMBERED = 4096  # programs
_SWEEP = 2.0  # seconds between looks for libraries that nobody uses any more
_DESCRIPTORS = 1024  # beside those of libraries
_PATIENCE = 5.0  # seconds for all processes that run already, and for the end

Watch = Callable[[int, int], tuple[int, ...]]
Version = tuple[int, int, int]  # of what is in a file: its size, and when that, and the file, changed, in ns


class _Library:
    """A file, what watches it (nothing, if it is no C library), and the roots below which it was found.

    `path`: where it is on this host; "" if that is a container's own mount, which shall not be held up.
    """

    def __init__(self, watches: tuple[int, ...], version: Version, path: str) -> None:
        self.watches = watches
        self.version = version
        self.path = path
        self.roots: set[Identity] = set()

    def is_wanted(self, file: Identity, roots: set[Identity]) -> bool:
        """Whether one of these roots has it, or it is still there for the next one that may come."""
        self.roots &= roots
        with suppress(OSError):
            return bool(self.roots) or (bool(self.path) and identity(Path(self.path).stat()) == file)
        return False


class Libraries:
    """Watches by `watch(file, offset)`, which gives descriptors, all libraries there are, and those that come.

    Counts: `libraries_watched` so far, `libraries_refused` (the kernel would not, or the file could not be read, each
    time), `libraries_dropped` for the bound; `starts_dropped`: processes that came too fast, all are looked at then.
    """

    def __init__(self, watch: Watch, counters: Counter[str]) -> None:
        _make_room()
        self._counters = counters
        counters.update(dict.fromkeys(COUNTERS, 0))  # no new keys from the thread
        self._watch = watch
        self._files: dict[Identity, _Library] = {}
        self._looked: OrderedDict[tuple[Identity, Identity], float] = OrderedDict()
        self._started: queue.Queue[int | None] = queue.Queue(_WAITING)
        self._dropped, self._closed = threading.Event(), threading.Event()
        self._all_looked_at = threading.Event()
        self._thread = threading.Thread(target=self._work, name="C libraries", daemon=True)
        self._thread.start()
        self._all_looked_at.wait(_PATIENCE)

    def look(self, pid: int) -> None:
        """A process has begun to run something: it may bring a library that is not watched yet."""
        try:
            self._started.put_nowait(pid)
        except queue.Full:
            self._counters["starts_dropped"] += 1
            self._dropped.set()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        with suppress(queue.Full):
            self._started.put_nowait(None)  # so that it wakes
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        keep_capabilities(*CAPABILITIES)
        self._look_at_all()
        self._all_looked_at.set()
        swept = time.monotonic()
        while not self._closed.is_set():
            with suppress(queue.Empty):
                pid = self._started.get(timeout=_SWEEP)
                if pid is not None:
                    self._look(pid)
            if time.monotonic() - swept >= _SWEEP:
                self._sweep()
                swept = time.monotonic()
        for file in list(self._files):
            self._forget(file)

    def _look_at_all(self) -> None:
        for pid in process_ids():
            self._look(pid)

    def _look(self, pid: int) -> None:
        """Watch the library of a process; one that has ended by now, or is not ours to see, has none."""
        try:
            self._watch_libraries(pid)
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - whatever a stranger's file has done, the others must be watched
            self._counters["libraries_refused"] += 1

    def _watch_libraries(self, pid: int) -> None:
        with open_root(pid) as directory:
            program, root = identity(Path(f"/proc/{pid}/exe").stat()), identity(os.fstat(directory))
            now = time.monotonic()
            if now - self._looked.get((program, root), float("-inf")) < _AGAIN:
                return
            for file in c_libraries(pid, directory):
                self._take(pid, file, root)
            self._looked[program, root] = now
            self._looked.move_to_end((program, root))
            if len(self._looked) > _REMEMBERED:
                self._looked.popitem(last=False)

    def _take(self, pid: int, file: int, root: Identity) -> None:
        library = self._known(file)
        if library is None:
            with open_layer(pid, file) as (real, path):
                library = self._known(real) or self._add(real, path)
        if library is not None:
            library.roots.add(root)

    def _known(self, file: int) -> _Library | None:
        """The library that a file is; what was watched in one that was written over since is at a wrong place."""
        status = os.fstat(file)
        library = self._files.get(identity(status))
        if library is not None and library.version != _version(status):
            self._forget(identity(status))
            return None
        return library

    def _add(self, file: int, path: str) -> _Library | None:
        if len(self._files) >= MOST_FILES:
            self._counters["libraries_dropped"] += 1
            return None
        status = os.fstat(file)
        try:
            watches = self._watches(file)
        except OSError:
            self._counters["libraries_refused"] += 1
            return None
        self._counters["libraries_watched"] += bool(watches)
        library = self._files[identity(status)] = _Library(watches, _version(status), path)
        return library

    def _watches(self, file: int) -> tuple[int, ...]:
        offset = function_offset(partial(os.pread, file), FUNCTION)
        if offset is None or self._closed.is_set():  # then the programs may be gone by now
            return ()
        return self._watch(file, offset)

    def _sweep(self) -> None:
        """Let go of libraries that are not wanted any more: the mount of what is watched cannot go."""
        if self._dropped.is_set():
            self._dropped.clear()
            self._look_at_all()
        roots = set()
        for pid in process_ids():
            with suppress(OSError), open_root(pid) as directory:
                roots.add(identity(os.fstat(directory)))
        for file, library in list(self._files.items()):
            if not library.is_wanted(file, roots):
                self._forget(file)

    def _forget(self, file: Identity) -> None:
        for descriptor in self._files.pop(file).watches:
            os.close(descriptor)


def _version(status: os.stat_result) -> Version:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _make_room() -> None:
    """Let this process have the descriptors, two for each file, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = max(soft, 2 * MOST_FILES + _DESCRIPTORS)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
