"""The file in a layer that a container's overlay shows: one for all containers of an image (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dnstrail_probe.ebpf.getaddrinfo.process_root import open_below

_ESCAPED = re.compile(r"\\([0-7]{3})")
_LAYERS = ("upperdir", "lowerdir", "lowerdir+")


@contextmanager
def open_layer(pid: int, file: int) -> Iterator[tuple[int, str]]:
    """The file behind one that a process sees in its root, if that is an overlay, and its path; else itself, and "".

    Itself, too, where the layers are not ours to see, and where the layer's file is another one by inode number, size
    or time, all of which an overlay shows: it may have been copied up since the process saw it.
    """
    place = os.fsdecode(os.readlink(f"/proc/self/fd/{file}"))  # noqa: PTH115 - bytes of a stranger
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
    """The layers of the overlay that is mounted at "/", from the top, as paths of the host; none if that is another."""
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
