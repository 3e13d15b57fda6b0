"""The library files in which calls of getaddrinfo are watched: each once, as what it is now, and while it is of use."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from dnstrail_probe.ebpf.getaddrinfo.elf import function_offset
from dnstrail_probe.ebpf.getaddrinfo.overlay import open_layer
from dnstrail_probe.ebpf.getaddrinfo.process_root import Identity, identity

FUNCTION = "getaddrinfo"
SOURCE = f"ebpf:{FUNCTION}"  # as --capture names it
MOST_FILES = 1024  # libraries, and the loaders beside them

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

    def is_of_use(self, file: Identity, roots: Collection[Identity]) -> bool:
        """Whether one of these roots has it, or it is still there for the next one that may come."""
        self.roots.intersection_update(roots)
        with suppress(OSError):
            return bool(self.roots) or (bool(self.path) and identity(Path(self.path).stat()) == file)
        return False


class UprobeTable:
    """Watches by `watch(file, offset)`, which gives descriptors; no more once `stop` is set.

    Counts: `libraries_watched` so far, `libraries_refused` (the kernel would not, or the file could not be read, each
    time), `libraries_dropped` for the bound.
    """

    def __init__(self, watch: Watch, counters: Counter[str], stop: threading.Event) -> None:
        self._watch = watch
        self._counters = counters
        self._stop = stop
        self._files: dict[Identity, _Library] = {}

    def take(self, pid: int, file: int, root: Identity) -> None:
        """A process has an open file below its root: watch it, or the one in a layer that it stands for."""
        library = self._known(file)
        if library is None:
            with open_layer(pid, file) as (real, path):
                library = self._known(real) or self._add(real, path)
        if library is not None:
            library.roots.add(root)

    def keep(self, roots: Collection[Identity]) -> None:
        """Let go of what is of no use where these are all roots there are: the mount of what is watched cannot go.

        The kernel takes its time for each, in which others are to be watched: so in a thread.
        """
        useless = [file for file, library in self._files.items() if not library.is_of_use(file, roots)]
        descriptors = [descriptor for file in useless for descriptor in self._files.pop(file).watches]
        if descriptors:
            threading.Thread(target=_close, args=(descriptors,), name="useless watches", daemon=True).start()

    def close(self) -> None:
        """Let go of all."""
        for library in self._files.values():
            _close(library.watches)
        self._files.clear()

    def _known(self, file: int) -> _Library | None:
        """The library that a file is; what was watched in one that was written over since is at a wrong place."""
        status = os.fstat(file)
        library = self._files.get(identity(status))
        if library is not None and library.version != _version(status):
            _close(self._files.pop(identity(status)).watches)
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
        if offset is None or self._stop.is_set():  # then the programs may be gone by now
            return ()
        return self._watch(file, offset)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _version(status: os.stat_result) -> Version:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
