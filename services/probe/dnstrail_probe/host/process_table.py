"""Which process a pid was at a time: a table fed by fork, exec and exit, for pids are reused and events come late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

REMEMBERED = 60_000_000_000  # ns for which a process that has ended is remembered
MAX_PROCESSES = 65536
TICK = 20_000_000  # ns by which a start may be told too early: /proc counts in hundredths of a second
_CLOSING = 1_000_000_000  # ns in which a process that ends may still be seen: it closes its files last


@dataclass(slots=True, eq=False)
class ProcessEntry:
    """One process from its start to its end (0: it lives), in ns of the monotonic clock; "" where not known.

    `asks` and `answers` say which DNS roles it was seen in; `looked`, that /proc was asked for what is missing.
    """

    pid: int
    start: int
    name: str = ""
    path: str = ""
    parent: int = 0
    user: int = 0
    cgroup: int = 0
    ended: int = 0
    asks: bool = False
    answers: bool = False
    looked: bool = False


class ProcessTable:
    """The processes that live, and those that ended within the last minute. Plain data: stamps come with events.

    `most` bounds them: those that ended first go first, then those known longest; `dropped` counts them.
    """

    def __init__(self, most: int = MAX_PROCESSES) -> None:
        self.dropped = 0
        self._most = most
        self._lives: dict[int, list[ProcessEntry]] = {}  # by pid, the newest last
        self._ended: deque[ProcessEntry] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def at(self, pid: int, stamp: int) -> ProcessEntry | None:
        """Who had this pid at a time; None if nobody is known to have had it."""
        for life in reversed(self._lives.get(pid, ())):
            if life.start <= stamp:
                return life if not life.ended or stamp <= life.ended + _CLOSING else None
        return None

    def add(self, life: ProcessEntry) -> ProcessEntry:
        """Take in a process that was found; one that is known already stays as it is, and is given back."""
        lives = self._lives.setdefault(life.pid, [])
        place = next((at for at in range(len(lives), 0, -1) if lives[at - 1].start <= life.start), 0)
        for near in lives[max(place - 1, 0) : place + 1]:
            if not near.ended and abs(near.start - life.start) <= TICK:
                return near
        if place and not lives[place - 1].ended:  # its end was not seen
            self._end(lives[place - 1], life.start)
        lives.insert(place, life)
        if place + 1 < len(lives):
            life.ended = life.ended or max(lives[place + 1].start, 1)
        if life.ended:
            self._ended.append(life)
        self._count += 1
        while self._count > self._most:
            self._drop_one()
        return life

    def forked(self, child: ProcessEntry) -> ProcessEntry:
        """A process was forked: it runs what its parent runs."""
        parent = self.at(child.parent, child.start)
        if parent and not child.path:
            child.path = parent.path
        return self.add(child)

    def executed(self, stamp: int, seen: ProcessEntry) -> ProcessEntry:
        """A process began to run something else: what was seen of it counts from now on."""
        life = self._living(seen.pid)
        if life is None:
            return self.add(seen)
        life.name, life.path, life.parent = seen.name, seen.path, seen.parent
        life.user, life.cgroup, life.looked = seen.user, seen.cgroup, False
        self.forget(stamp)
        return life

    def exited(self, stamp: int, seen: ProcessEntry) -> ProcessEntry | None:
        """A process has ended; None if that was told before."""
        life = self._living(seen.pid)
        if life is not None:
            self._end(life, stamp)
        elif self.at(seen.pid, stamp) is None:
            seen.ended = max(stamp, 1)
            life = self.add(seen)
        self.forget(stamp)
        return life

    def forget(self, now: int) -> None:
        """Let go of those that ended more than a minute ago."""
        while self._ended and self._ended[0].ended < now - REMEMBERED:
            self._remove(self._ended.popleft())

    def _living(self, pid: int) -> ProcessEntry | None:
        lives = self._lives.get(pid)
        return lives[-1] if lives and not lives[-1].ended else None

    def _end(self, life: ProcessEntry, stamp: int) -> None:
        life.ended = max(stamp, 1)
        self._ended.append(life)

    def _drop_one(self) -> None:
        self.dropped += 1
        self._remove(self._ended.popleft() if self._ended else next(iter(self._lives.values()))[0])

    def _remove(self, life: ProcessEntry) -> None:
        lives = self._lives[life.pid]
        lives.remove(life)
        self._count -= 1
        if not lives:
            del self._lives[life.pid]
