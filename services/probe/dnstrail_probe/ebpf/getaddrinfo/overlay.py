"""Resolves a file in an overlay to the file in its layer, which all containers of an image share.

The layers are read from mountinfo (proc_pid_mountinfo(5)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dnstrail_probe.host.process_root import open_below

_ESCAPED = re.compile(r"\\([0-7]{3})")
_LAYERS = ("upperdir", "lowerdir", "lowerdir+")


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
