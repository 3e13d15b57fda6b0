"""The table of library files that have uprobes on getaddrinfo."""

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
from dnstrail_probe.host.process_root import Identity, identity

FUNCTION = "getaddrinfo"
SOURCE = f"ebpf:{FUNCTION}"  # as --capture names it
MOST_FILES = 1024  # libraries and loaders

Watch = Callable[[int, int], tuple[int, ...]]  # (open file, offset) -> descriptors that keep its uprobes attached
Version = tuple[int, int, int]  # of the content of a file: size, time of modification, time of change (ns)


class _Library:
    """A file with its uprobes (none if it is no C library), and the roots below which it was found.

    `path`: where it is on this host; "" if it is in a container's own mount, whose unmount must not be held up.
    """

    def __init__(self, watches: tuple[int, ...], version: Version, path: str) -> None:
        self.watches = watches
        self.version = version
        self.path = path
        self.roots: set[Identity] = set()

    def is_used(self, file: Identity, roots: Collection[Identity]) -> bool:
        """Return true if it is below one of these roots, or is still on the host for the next container."""
        self.roots.intersection_update(roots)
        with suppress(OSError):
            return bool(self.roots) or (bool(self.path) and identity(Path(self.path).stat()) == file)
        return False


class UprobeTable:
    """The watched files, by device and inode: each is watched once, in its present version, while it is used.

    `watch` attaches the uprobes; nothing is attached once `stop` is set. Counters: `libraries_watched` in all,
    `libraries_refused` (the kernel refused the uprobes, or the file could not be read; each attempt), and
    `libraries_dropped` (beyond the bound on files).
    """

    def __init__(self, watch: Watch, counters: Counter[str], stop: threading.Event) -> None:
        self._attach = watch
        self._counters = counters
        self._stop = stop
        self._files: dict[Identity, _Library] = {}

    def watch(self, pid: int, file: int, root: Identity) -> None:
        """Watch an open file that a process has below its root; in an overlay, the file in the layer."""
        library = self._known(file)
        if library is None:
            with open_layer(pid, file) as (real, path):
                library = self._known(real) or self._add(real, path)
        if library is not None:
            library.roots.add(root)

    def keep(self, roots: Collection[Identity]) -> None:
        """Stop watching the files that are unused, given all roots of the host: a watched file holds up its unmount.

        The kernel takes long to detach a uprobe, so a thread of its own does it, and other files are watched meanwhile.
        """
        unused = [file for file, library in self._files.items() if not library.is_used(file, roots)]
        descriptors = [descriptor for file in unused for descriptor in self._files.pop(file).watches]
        if descriptors:
            threading.Thread(target=_close, args=(descriptors,), name="unused uprobes", daemon=True).start()

    def close(self) -> None:
        """Detach all uprobes."""
        for library in self._files.values():
            _close(library.watches)
        self._files.clear()

    def _known(self, file: int) -> _Library | None:
        """Return the library that a file is. A file that was overwritten is unknown: its uprobes are misplaced."""
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
        if offset is None or self._stop.is_set():  # once it is set, the programs can be unloaded
            return ()
        return self._attach(file, offset)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _version(status: os.stat_result) -> Version:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
