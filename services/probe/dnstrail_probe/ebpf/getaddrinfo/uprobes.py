"""The table of library files that have uprobes on getaddrinfo, and the layers of overlays in which they lie."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from dnstrail_probe.ebpf.getaddrinfo.elf import function_offset
from dnstrail_probe.host.process_root import Identity, identity, open_below, user_behind

_ESCAPED = re.compile(r"\\([0-7]{3})")
_LAYERS = ("upperdir", "lowerdir", "lowerdir+")
FUNCTION = "getaddrinfo"
SOURCE = f"ebpf:{FUNCTION}"  # as --capture names it
MOST_FILES = 1024  #: libraries and loaders with uprobes -> `libraries_dropped`
#: libraries and loaders of one user with uprobes -> `libraries_dropped`
MOST_OF_ONE = 128  # of root in one mount namespace, since the root of a container is root as well
Watch = Callable[[int, int], tuple[int, ...]]  # (open file, offset) -> descriptors that keep its uprobes attached
Sharer = tuple[int, int]  # a user, and for root the mount namespace
Version = tuple[int, int, int]  # of the content of a file: size, time of modification, time of change (ns)


class _Library:
    """A file with its uprobes (none if it is no C library), and the roots below which it was found.

    `descriptors` are those of the file and of its uprobes. `path`: where it is on this host; "" if it is in a mount of
    a container, whose unmount must not be held up. `sharer` is the one whose share it takes.
    """

    def __init__(self, descriptors: tuple[int, ...], version: Version, path: str, sharer: Sharer) -> None:
        self.descriptors = descriptors
        self.version = version
        self.path = path
        self.sharer = sharer
        self.roots: set[Identity] = set()

    @property
    def is_deleted(self) -> bool:
        """True if the file has no name any more; programs that started before can still use it."""
        return os.fstat(self.descriptors[0]).st_nlink == 0

    def is_used(self, file: Identity, roots: Collection[Identity]) -> bool:
        """Return true if it is below one of these roots, or is still on the host for the next container."""
        self.roots.intersection_update(roots)
        with suppress(OSError):
            return bool(self.roots) or (bool(self.path) and identity(Path(self.path).stat()) == file)
        return False


class UprobeTable:
    """The watched files, by device and inode: each is watched once, in its present version, while it is used.

    No user has more than a share of the table. Deleted files give way to others.

    `watch` attaches the uprobes; nothing is attached once `stop` is set. Counters: `libraries_watched` in all,
    `libraries_refused` (the kernel refused the uprobes, or the file could not be read; each attempt), and
    `libraries_dropped` (beyond the bounds on files).
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
                library = self._known(real) or self._add(pid, real, path)
        if library is not None:
            library.roots.add(root)

    def keep(self, roots: Collection[Identity]) -> None:
        """Stop watching the files that are unused, given all roots of the host: a watched file holds up its unmount.

        The kernel takes long to detach a uprobe, so a thread of its own does it, and other files are watched meanwhile.
        """
        self._release([file for file, library in self._files.items() if not library.is_used(file, roots)])

    def close(self) -> None:
        """Detach all uprobes."""
        for library in self._files.values():
            _close(library.descriptors)
        self._files.clear()

    def _release(self, files: list[Identity]) -> None:
        descriptors = [descriptor for file in files for descriptor in self._files.pop(file).descriptors]
        if descriptors:
            threading.Thread(target=_close, args=(descriptors,), name="unused uprobes", daemon=True).start()

    def _known(self, file: int) -> _Library | None:
        """Return the library that a file is. A file that was overwritten is unknown: its uprobes are misplaced."""
        status = os.fstat(file)
        library = self._files.get(identity(status))
        if library is not None and library.version != _version(status):
            _close(self._files.pop(identity(status)).descriptors)
            return None
        return library

    def _add(self, pid: int, file: int, path: str) -> _Library | None:
        sharer = _sharer(pid)
        if not self._has_room(sharer):
            self._release([file for file, library in self._files.items() if library.is_deleted])
        if not self._has_room(sharer):
            self._counters["libraries_dropped"] += 1
            return None
        status = os.fstat(file)
        try:
            watches = self._watches(file)
        except OSError:
            self._counters["libraries_refused"] += 1
            return None
        self._counters["libraries_watched"] += bool(watches)
        library = _Library((os.dup(file), *watches), _version(status), path, sharer)
        self._files[identity(status)] = library
        return library

    def _has_room(self, sharer: Sharer) -> bool:
        share = sum(library.sharer == sharer for library in self._files.values())
        return share < MOST_OF_ONE and len(self._files) < MOST_FILES

    def _watches(self, file: int) -> tuple[int, ...]:
        offset = function_offset(partial(os.pread, file), FUNCTION)
        if offset is None or self._stop.is_set():  # once it is set, the programs can be unloaded
            return ()
        return self._attach(file, offset)


def _sharer(pid: int) -> Sharer:
    user = user_behind(pid)
    return user, 0 if user else Path(f"/proc/{pid}/ns/mnt").stat().st_ino


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _version(status: os.stat_result) -> Version:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def open_layer(pid: int, file: int) -> Iterator[tuple[int, str]]:
    """Open the file in a layer that an open file of a process's overlay root shows; yield it and its path.

    Yield the file itself and "" if the root is no overlay, if this user may not read the layers, or if the file in the
    layer has another inode number, size or time. An overlay shows these three unchanged, so the file must have been
    copied up since.
    """
    place = os.fsdecode(os.readlink(f"/proc/self/fd/{file}"))  # noqa: PTH115 - the path can contain any bytes
    with ExitStack() as stack:
        found, path = file, ""
        for layer in layers(_mounts(pid)):
            with suppress(OSError):
                there = _open_in(stack, layer, place)
                if _same(os.fstat(there), os.fstat(file)):
                    found, path = there, layer + place
                break
        yield found, path


def _open_in(stack: ExitStack, layer: str, place: str) -> int:
    root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, root)
    return stack.enter_context(open_below(root, place))


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)


def layers(mounts: str) -> list[str]:
    """Return the layers of the overlay that is mounted at "/", topmost first, as paths of the host.

    `mounts` is the text of a mountinfo. The last mount at "/" counts; the list is empty if that is no overlay.
    """
    found: list[str] = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if before.split()[4:5] == ["/"]:
            found = _layers(options.rpartition(" ")[2]) if kind == "overlay" else []
    return found


def _layers(options: str) -> list[str]:
    named = [option.partition("=") for option in options.split(",")]
    paths = [path for key in _LAYERS for name, _, value in named if name == key for path in value.split(":")]
    return [path for path in map(_unescape, paths) if path.startswith("/")]


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda code: chr(int(code[1], 8)), text)


def _mounts(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape")
    return ""
