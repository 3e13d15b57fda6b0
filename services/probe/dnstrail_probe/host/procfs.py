"""The running processes of this host, read from /proc (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from dnstrail_probe.host.process_table import ProcessEntry

_PROC = Path("/proc")
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PARENT, _START = 1, 19  # the fields "ppid" and "starttime", counted from the first after the name
_DELETED = " (deleted)"


def process_ids() -> Iterator[int]:
    """Yield the ids of the running processes."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def read_process(pid: int) -> ProcessEntry | None:
    """Return a running process; None if it has ended. Values that this user may not read are 0 or ""."""
    folder = _PROC / str(pid)
    try:
        stat = (folder / "stat").read_text(errors="backslashreplace")
        user = folder.stat().st_uid
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    started = int(fields[_START]) * _TICK
    return ProcessEntry(
        pid=pid,
        start=started - _boot_offset(),
        name=name,
        path=executable(pid),
        parent=int(fields[_PARENT]),
        user=user,
        started=started,
        mount_namespace=_namespace(folder / "ns" / "mnt"),
        pid_namespace=_namespace(folder / "ns" / "pid"),
        proc_read=True,
    )


def executable(pid: int) -> str:
    """Return the path of the program that a process runs, below the root of the process; "" if it may not be read."""
    try:
        path = os.fsencode((_PROC / str(pid) / "exe").readlink())
    except OSError:
        return ""
    return path.decode(errors="backslashreplace").removesuffix(_DELETED)


def cgroup_path(pid: int) -> str:
    """Return the path of a process's cgroup2 below the root of that hierarchy; "" if there is none."""
    try:
        text = (_PROC / str(pid) / "cgroup").read_text(errors="surrogateescape")
    except OSError:
        return ""
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")


def sockets_of(pid: int) -> Iterator[int]:
    """Yield the inodes of the sockets that a process has open; none if they may not be read."""
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
    """Return the network namespaces that processes are in: the inode of each, and a path that opens it."""
    found: dict[int, Path] = {}
    for pid in process_ids():
        path = _PROC / str(pid) / "ns" / "net"
        inode = _namespace(path)
        if inode:
            found.setdefault(inode, path)
    return found


def _namespace(path: Path) -> int:
    """Return the inode number of a namespace; 0 if it may not be read."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _boot_offset() -> int:
    """Return by how much the boot time clock is ahead of the monotonic clock: the time that was spent suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
