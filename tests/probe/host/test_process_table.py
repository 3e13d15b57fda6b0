from __future__ import annotations

import os
import subprocess
import sys
import time

from hypothesis import given
from hypothesis import strategies as st

from dnstrail_probe.host.process_table import REMEMBERED, TICK, ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import cgroup_path, executable, process_ids, read_process, sockets_of

SECOND = 10**9


def table(*lives: ProcessEntry, most: int = 100) -> ProcessTable:
    processes = ProcessTable(most)
    for life in lives:
        processes.add(life)
    return processes


def test_event_that_comes_after_the_end_still_finds_its_process():
    """A process is found for a minute after its end, by when its pid was noted, and then no more."""
    processes = table(ProcessEntry(7, SECOND, "dig", "/usr/bin/dig"))
    processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND))
    processes.forget(2 * SECOND + REMEMBERED)
    assert processes.at(7, 2 * SECOND).path == "/usr/bin/dig"
    processes.forget(2 * SECOND + REMEMBERED + 1)
    assert processes.at(7, 2 * SECOND) is None
    assert len(processes) == 0


def test_reused_pid_is_two_processes():
    """Of a pid that was given twice, each time belongs to the process that had it then."""
    processes = table(ProcessEntry(7, SECOND, path="/first"))
    processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND))
    processes.forked(ProcessEntry(7, 3 * SECOND, path="/second"))
    assert [processes.at(7, at * SECOND).path for at in (1, 2, 3, 9)] == ["/first", "/first", "/second", "/second"]
    assert processes.at(7, SECOND - 1) is None


def test_pid_of_an_ended_process_is_nobody_until_it_is_given_again():
    """Long after its end a process has its pid no more, though it is still remembered."""
    processes = table(ProcessEntry(7, SECOND, path="/first"))
    processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND))
    assert processes.at(7, 5 * SECOND) is None


def test_lost_end_is_noticed_when_the_pid_is_given_again():
    """Where an end was not seen, the next process of that pid ends the one before."""
    processes = table(ProcessEntry(7, SECOND, path="/first"))
    processes.forked(ProcessEntry(7, 9 * SECOND, path="/second"))
    assert processes.at(7, 8 * SECOND).ended == 9 * SECOND


def test_older_process_that_is_found_late_does_not_end_the_younger():
    """What is learnt late of an old process of a pid leaves the one that has it now as it is."""
    processes = table(ProcessEntry(7, 9 * SECOND, path="/now"))
    processes.add(ProcessEntry(7, SECOND, path="/then"))
    assert processes.at(7, 10 * SECOND).path == "/now"
    assert processes.at(7, 10 * SECOND).ended == 0
    assert processes.at(7, 2 * SECOND).path == "/then"


def test_child_runs_what_its_parent_runs_until_it_executes():
    """A fork copies the path, and an exec replaces it."""
    processes = table(ProcessEntry(1, 0, path="/usr/bin/bash"))
    child = processes.forked(ProcessEntry(2, SECOND, parent=1))
    assert child.path == "/usr/bin/bash"
    processes.executed(2 * SECOND, ProcessEntry(2, 2 * SECOND, "dig", "/usr/bin/dig", parent=1))
    assert processes.at(2, SECOND) is child
    assert (child.name, child.path, child.parent) == ("dig", "/usr/bin/dig", 1)


def test_end_is_told_once():
    """A process that ended has ended, however often its end is seen."""
    processes = table(ProcessEntry(7, SECOND))
    assert processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND)) is not None
    assert processes.exited(2 * SECOND + 1, ProcessEntry(7, 2 * SECOND + 1)) is None


def test_end_of_a_process_that_was_never_seen_is_told():
    """An end alone makes a process known, as one that has ended."""
    processes = table()
    life = processes.exited(SECOND, ProcessEntry(7, SECOND, "gone"))
    assert (life.name, life.ended) == ("gone", SECOND)


def test_process_found_twice_is_one():
    """What /proc tells of a process whose fork was seen is no second process: its clock is coarser."""
    processes = table(ProcessEntry(7, 5 * SECOND, path="/seen"))
    assert processes.add(ProcessEntry(7, 5 * SECOND - TICK, path="/proc")).path == "/seen"
    assert len(processes) == 1


def test_table_is_bounded_and_counts():
    """Past its bound a table lets go of those that ended first, then of the oldest, and counts them."""
    processes = table(*(ProcessEntry(pid, pid) for pid in range(1, 6)), most=5)
    processes.exited(10, ProcessEntry(3, 10))
    processes.add(ProcessEntry(6, 11))
    assert (processes.at(3, 10), len(processes), processes.dropped) == (None, 5, 1)
    processes.add(ProcessEntry(7, 12))
    assert (processes.at(1, 12), len(processes), processes.dropped) == (None, 5, 2)


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "fork", "exec", "exit"]), st.integers(1, 4), st.integers(0, 50)), max_size=60
)


@given(STEPS, st.integers(1, 6))
def test_any_order_of_events_keeps_the_table_whole(steps, most):
    """Whatever comes in whatever order, the table keeps its bound, and each pid has one process alive at most."""
    processes = ProcessTable(most)
    for kind, pid, second in steps:
        stamp = second * SECOND
        seen = ProcessEntry(pid, stamp, parent=pid % 4 + 1)
        if kind == "add":
            processes.add(seen)
        elif kind == "fork":
            processes.forked(seen)
        elif kind == "exec":
            processes.executed(stamp, seen)
        else:
            processes.exited(stamp, seen)
        lives = processes._entries
        assert sum(map(len, lives.values())) == len(processes) <= most
        for ordered in lives.values():
            assert [life.start for life in ordered] == sorted(life.start for life in ordered)
            assert sum(not life.ended for life in ordered) <= 1
        processes.forget(stamp)


def test_proc_tells_of_this_process():
    """What /proc says of this process: its name, path, parent, user, and a start in the monotonic clock."""
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as child:
        began = time.monotonic_ns()
        life = read_process(child.pid)
        assert life.path == executable(child.pid) == os.path.realpath("/bin/sh")
        assert (life.name, life.parent, life.user) == ("sh", os.getpid(), os.geteuid())
        assert began - 5 * SECOND < life.start <= began
        assert child.pid in set(process_ids())
        child.stdin.close()
    assert read_process(child.pid) is None
    assert executable(child.pid) == ""
    assert list(sockets_of(child.pid)) == []
    assert cgroup_path(child.pid) == ""


def test_name_with_blanks_and_brackets_is_read_whole():
    """A process may be called anything, and is read right nevertheless."""
    rename = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') S 1 (x', 0, 0, 0)"
    code = f"{rename}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        life = read_process(child.pid)
        assert (life.name, life.parent) == (") S 1 (x", os.getpid())
        child.stdin.close()
