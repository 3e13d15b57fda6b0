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
MOST_FILES = 1024  # libraries, and the loaders beside them
_WAITING = 4096  # processes that may wait to be looked at
_AGAIN = 1.0  # seconds until what a process runs is looked at once more: its library may be a new one by then
_REMEMBERED = 4096  # programs
_SWEEP = 2.0  # seconds between looks for libraries that nobody uses any more
_DESCRIPTORS = 1024  # beside those of libraries
_PATIENCE = 5.0  # seconds for all processes that run already, and for the end

Watch = Callable[[int, int], tuple[int, ...]]


class _Library:
    """A file, what watches it (nothing, if it is no C library), and the roots below which it was found.

    `path`: where it is on this host; "" if that is a container's own mount, which shall not be held up.
    """

    def __init__(self, watches: tuple[int, ...], path: str) -> None:
        self.watches = watches
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

    Counts: `libraries_watched` so far, `libraries_refused` by the kernel, `libraries_dropped` for a bound.
    """

    def __init__(self, watch: Watch, counters: Counter[str]) -> None:
        _make_room()
        self._counters = counters
        counters.update(libraries_watched=0, libraries_refused=0, libraries_dropped=0)  # no new keys from the thread
        self._watch = watch
        self._files: dict[Identity, _Library] = {}
        self._looked: OrderedDict[tuple[Identity, Identity], float] = OrderedDict()
        self._started: queue.Queue[int | None] = queue.Queue(_WAITING)
        self._all_looked_at, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="C libraries", daemon=True)
        self._thread.start()
        self._all_looked_at.wait(_PATIENCE)

    def look(self, pid: int) -> None:
        """A process has begun to run something: it may bring a library that is not watched yet."""
        try:
            self._started.put_nowait(pid)
        except queue.Full:
            self._counters["libraries_dropped"] += 1

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        with suppress(queue.Full):
            self._started.put_nowait(None)  # so that it wakes
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        keep_capabilities(*CAPABILITIES)
        for running in process_ids():
            self._look(running)
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

    def _look(self, pid: int) -> None:
        """Watch the library of a process; one that has ended by now, or is not ours to see, has none."""
        with suppress(OSError), open_root(pid) as directory:
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
        if self._closed.is_set():
            return  # the programs may be gone by now
        library = self._files.get(identity(os.fstat(file)))
        if library is None:
            with open_layer(pid, file) as (real, path):
                library = self._files.get(identity(os.fstat(real))) or self._add(real, path)
        if library is not None:
            library.roots.add(root)

    def _add(self, file: int, path: str) -> _Library | None:
        if len(self._files) >= MOST_FILES:
            self._counters["libraries_dropped"] += 1
            return None
        library = self._files[identity(os.fstat(file))] = _Library(self._watches(file), path)
        self._counters["libraries_watched"] += bool(library.watches)
        return library

    def _watches(self, file: int) -> tuple[int, ...]:
        offset = function_offset(partial(os.pread, file), FUNCTION)
        if offset is None:
            return ()
        try:
            return self._watch(file, offset)
        except OSError:
            self._counters["libraries_refused"] += 1
            return ()

    def _sweep(self) -> None:
        """Let go of libraries that are not wanted any more: the mount of what is watched cannot go."""
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


def _make_room() -> None:
    """Let this process have the descriptors, two for each file, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = max(soft, 2 * MOST_FILES + _DESCRIPTORS)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
