from __future__ import annotations

from collections import Counter

from dnstrail.captured import Process
from dnstrail.image.binding.processes import Processes

DAEMON, CHILD, FIRST = 10, 11, 100


def test_processes_that_end_evict_no_running_one() -> None:
    """A process that forks without end, whose children end, takes the parent of no idle process."""
    counters: Counter[str] = Counter()
    processes = Processes(64, 1, counters)
    processes.note(("", DAEMON, 1), 1)
    processes.forked(("", DAEMON, 1), CHILD, 2)
    processes.note(("", CHILD, 2), 2)
    for pid in range(FIRST, FIRST + 1000):
        processes.forked(("", FIRST - 1, 3), pid, pid)
        processes.note(("", pid, pid), pid)
        processes.ended(("", pid, pid), pid)
    assert processes.parent_of("", Process(CHILD, parent_pid=DAEMON, start_time=2)) == ("", DAEMON, 1)
    assert counters["evicted_processes"] == 1000 + 2 - 64
    assert len(processes) == 64


def test_a_pid_that_is_used_again_runs() -> None:
    """A process with the pid of an ended one is running: others that have ended are evicted before it."""
    processes = Processes(4, 1, Counter())
    processes.note(("", CHILD, 1), 1)
    processes.ended(("", CHILD, 1), 2)
    processes.forked(("", DAEMON, 1), CHILD, 3)
    for pid in range(FIRST, FIRST + 10):
        processes.note(("", pid, pid), pid)
        processes.ended(("", pid, pid), pid)
    assert processes.starts_of(CHILD, 3) == frozenset({0})
