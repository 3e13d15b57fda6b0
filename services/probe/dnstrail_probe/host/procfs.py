"""What /proc tells of the processes that run (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from dnstrail_probe.host.process_table import ProcessEntry

_PROC = Path("/proc")
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_START = 19  # the field "starttime", counted from behind the name
_DELETED = " (deleted)"


def process_ids() -> Iterator[int]:
    """The processes there are."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def read_process(pid: int) -> ProcessEntry | None:
    """A process that runs; None if it has ended. What it runs is "" where that is not ours to read."""
    folder = _PROC / str(pid)
    try:
        stat = (folder / "stat").read_text(errors="backslashreplace")
        user = folder.stat().st_uid
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    start = int(fields[_START]) * _TICK - _boot_offset()
    return ProcessEntry(pid, start, name, executable(pid), int(fields[1]), user, looked=True)


def executable(pid: int) -> str:
    """The path of what a process runs, as it sees it, as text; "" where that is not ours to read."""
    try:
        path = os.fsencode((_PROC / str(pid) / "exe").readlink())
    except OSError:
        return ""
    return path.decode(errors="backslashreplace").removesuffix(_DELETED)


def cgroup_path(pid: int) -> str:
    """The path of a process's cgroup2 below the root of that hierarchy; "" if it has none."""
    try:
        text = (_PROC / str(pid) / "cgroup").read_text(errors="surrogateescape")
    except OSError:
        return ""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")


def sockets_of(pid: int) -> Iterator[int]:
    """The inodes of the sockets that a process has open; none where that is not ours to read."""
    folder = _PROC / str(pid) / "fd"
    try:
        descriptors = list(folder.iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield int(target[8:-1])


def network_namespaces() -> dict[int, Path]:
    """Each network namespace that some process is in: its inode, and a file that leads to it."""
    found: dict[int, Path] = {}
    for pid in process_ids():
        path = _PROC / str(pid) / "ns" / "net"
        try:
            found.setdefault(path.stat().st_ino, path)
        except OSError:
            continue
    return found


def _boot_offset() -> int:
    """By how much the clock of starts, which counts suspended time, is ahead of the monotonic one."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
