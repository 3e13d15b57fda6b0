"""The course of a long measurement: the memory of the workers, and one restart of the cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from workers import Workers

_EACH = 5.0  # seconds between two samples of memory
_MINUTE = round(60 / _EACH)  # samples
AFTER = 10_000_000_000  # ns after the restart of the cache that are judged apart


@dataclass
class Course:
    """Samples of memory (MiB by worker), and the wall time of the restart of the cache in ns (0: none)."""

    memory: list[dict[str, int]] = field(default_factory=list)
    restarted: int = 0

    def is_restart(self, stamp: int) -> bool:
        """Return whether a time lies within the seconds after the restart."""
        return 0 <= stamp - self.restarted < AFTER

    def minutes(self) -> list[dict[str, int]]:
        """Return the most memory of each worker in each minute; the last minute may be cut short."""
        parts = [self.memory[at : at + _MINUTE] for at in range(0, len(self.memory), _MINUTE)]
        return [{name: max(one[name] for one in part) for name in part[0]} for part in parts]

    def peaks(self) -> dict[str, tuple[int, int]]:
        """Return the most memory of each worker in the second and in the last third of the time."""
        third = len(self.memory) // 3
        middle, last = self.memory[third : 2 * third], self.memory[2 * third :]
        names = self.memory[-1] if third else {}
        return {name: (max(one[name] for one in middle), max(one[name] for one in last)) for name in names}


@contextmanager
def following(running: Workers, restart_after: float) -> Iterator[Course]:
    """Follow the course until the end of the block; restart the cache after these seconds (0: never)."""
    course, stop = Course(), threading.Event()
    thread = threading.Thread(target=_follow, args=(course, running, restart_after, stop))
    thread.start()
    try:
        yield course
    finally:
        stop.set()
        thread.join()


def _follow(course: Course, running: Workers, restart_after: float, stop: threading.Event) -> None:
    begun = time.monotonic()
    while not stop.wait(_EACH):
        if restart_after and not course.restarted and time.monotonic() - begun >= restart_after:
            course.restarted = time.time_ns()
            running.restart_cache()
        course.memory.append(running.memory())
