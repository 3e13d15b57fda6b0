"""The process that had a pid at a given time. Needed since pids are reused and events arrive late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from dnstrail.captured import Process

REMEMBERED = 60_000_000_000  # ns for which an ended process is kept
MAX_PROCESSES = 65536  #: processes -> the one that ended first is evicted, else the oldest: `processes_dropped`
TICK = 20_000_000  # ns by which a start from /proc can be too early: /proc counts in hundredths of a second
_CLOSING = 1_000_000_000  # ns after its end in which a process can still send: it closes its files last


@dataclass(slots=True, eq=False)
class ProcessEntry:
    """One process, from `start` to `ended` (0: it runs), both in ns of the monotonic clock.

    `started` is the start in ns of the boot time clock, as the kernel states it; 0 if unknown. Other unknown values are
    0 or "". `asks` and `answers` are the DNS roles that it has had. `proc_read` is set once /proc was read
    for missing values. `reported` is the process as its last event contains it, and the fields of this: the events of
    one thread share the object.
    """

    pid: int
    start: int
    name: str = ""
    path: str = ""
    parent: int = 0
    user: int = 0
    cgroup: int = 0
    started: int = 0
    mount_namespace: int = 0
    pid_namespace: int = 0
    ended: int = 0
    asks: bool = False
    answers: bool = False
    proc_read: bool = False
    reported: tuple[tuple[Any, ...], Process] | None = None


class ProcessTable:
    """The running processes, and those that ended within the last minute; fed by fork, exec and exit.

    Times come with the events, so the table reads no clock. It never holds more than `most` entries: beyond that it
    evicts the process that ended first, else the oldest entry, and counts the eviction in `dropped`. At most one entry
    of a pid is running.
    """

    def __init__(self, most: int = MAX_PROCESSES) -> None:
        self.dropped = 0
        self._most = most
        self._entries: dict[int, list[ProcessEntry]] = {}  # by pid, the newest last
        self._ended: deque[ProcessEntry] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def at(self, pid: int, stamp: int) -> ProcessEntry | None:
        """Return the process that had this pid at a time; None if no such process is known."""
        for entry in reversed(self._entries.get(pid, ())):
            if entry.start <= stamp:
                return entry if not entry.ended or stamp <= entry.ended + _CLOSING else None
        return None

    def add(self, entry: ProcessEntry) -> ProcessEntry:
        """Add a process; return the entry already there if the process is known."""
        entries = self._entries.setdefault(entry.pid, [])
        place = next((at for at in range(len(entries), 0, -1) if entries[at - 1].start <= entry.start), 0)
        for near in entries[max(place - 1, 0) : place + 1]:
            if not near.ended and abs(near.start - entry.start) <= TICK:
                return near
        if place and not entries[place - 1].ended:  # its exit event was lost
            self._end(entries[place - 1], entry.start)
        entries.insert(place, entry)
        if place + 1 < len(entries):
            entry.ended = entry.ended or max(entries[place + 1].start, 1)
        if entry.ended:
            self._ended.append(entry)
        self._count += 1
        while self._count > self._most:
            self._drop_one()
        return entry

    def forked(self, child: ProcessEntry) -> ProcessEntry:
        """Add a forked process; it runs the program of its parent."""
        parent = self.at(child.parent, child.start)
        if parent and not child.path:
            child.path = parent.path
        return self.add(child)

    def executed(self, stamp: int, new: ProcessEntry) -> ProcessEntry:
        """Update a process that executed a program; its start does not change."""
        entry = self._running(new.pid)
        if entry is None:
            return self.add(new)
        entry.name, entry.path, entry.parent = new.name, new.path, new.parent
        entry.user, entry.cgroup, entry.proc_read = new.user, new.cgroup, False
        entry.mount_namespace, entry.pid_namespace = new.mount_namespace, new.pid_namespace
        entry.started = entry.started or new.started
        self.forget(stamp)
        return entry

    def exited(self, stamp: int, new: ProcessEntry) -> ProcessEntry | None:
        """End a process; return None if its exit was reported before."""
        entry = self._running(new.pid)
        if entry is not None:
            entry.started = entry.started or new.started
            self._end(entry, stamp)
        elif self.at(new.pid, stamp) is None:
            new.ended = max(stamp, 1)
            entry = self.add(new)
        self.forget(stamp)
        return entry

    def forget(self, now: int) -> None:
        """Remove the processes that ended more than a minute ago."""
        while self._ended and self._ended[0].ended < now - REMEMBERED:
            self._remove(self._ended.popleft())

    def _running(self, pid: int) -> ProcessEntry | None:
        entries = self._entries.get(pid)
        return entries[-1] if entries and not entries[-1].ended else None

    def _end(self, entry: ProcessEntry, stamp: int) -> None:
        entry.ended = max(stamp, 1)
        self._ended.append(entry)

    def _drop_one(self) -> None:
        self.dropped += 1
        self._remove(self._ended.popleft() if self._ended else next(iter(self._entries.values()))[0])

    def _remove(self, entry: ProcessEntry) -> None:
        entries = self._entries[entry.pid]
        entries.remove(entry)
        self._count -= 1
        if not entries:
            del self._entries[entry.pid]
