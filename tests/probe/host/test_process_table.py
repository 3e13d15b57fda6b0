from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail_probe.host.process_table import REMEMBERED, TICK, ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import cgroup_path, executable, process_ids, read_process, sockets_of

SECOND = 10**9


def table(*entries: ProcessEntry, most: int = 100) -> ProcessTable:
    processes = ProcessTable(most)
    for entry in entries:
        processes.add(entry)
    return processes


def test_an_event_after_the_end_finds_its_process():
    """A process is found for a minute after its end, by the time at which its pid was noted."""
    processes = table(ProcessEntry(7, SECOND, "dig", "/usr/bin/dig"))
    processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND))
    processes.forget(2 * SECOND + REMEMBERED)
    assert processes.at(7, 2 * SECOND).path == "/usr/bin/dig"
    processes.forget(2 * SECOND + REMEMBERED + 1)
    assert processes.at(7, 2 * SECOND) is None
    assert len(processes) == 0


def test_reused_pid_is_two_processes():
    """A reused pid yields the process that had it at the given time."""
    processes = table(ProcessEntry(7, SECOND, path="/first"))
    processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND))
    processes.forked(ProcessEntry(7, 3 * SECOND, path="/second"))
    assert [processes.at(7, at * SECOND).path for at in (1, 2, 3, 9)] == ["/first", "/first", "/second", "/second"]
    assert processes.at(7, SECOND - 1) is None


def test_the_pid_of_an_ended_process_is_free():
    """Some seconds after its end a process no longer has its pid, although it is still kept."""
    processes = table(ProcessEntry(7, SECOND, path="/first"))
    processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND))
    assert processes.at(7, 5 * SECOND) is None


def test_a_lost_exit_is_noticed_when_the_pid_is_reused():
    """If an exit was lost, the next process with that pid ends the one before."""
    processes = table(ProcessEntry(7, SECOND, path="/first"))
    processes.forked(ProcessEntry(7, 9 * SECOND, path="/second"))
    assert processes.at(7, 8 * SECOND).ended == 9 * SECOND


def test_older_process_that_is_found_late_does_not_end_the_younger():
    """Adding an older process of a pid late does not end the present one."""
    processes = table(ProcessEntry(7, 9 * SECOND, path="/now"))
    processes.add(ProcessEntry(7, SECOND, path="/then"))
    assert processes.at(7, 10 * SECOND).path == "/now"
    assert processes.at(7, 10 * SECOND).ended == 0
    assert processes.at(7, 2 * SECOND).path == "/then"


def test_child_runs_what_its_parent_runs_until_it_executes():
    """A fork copies the path, and an exec replaces it, with the namespaces."""
    processes = table(ProcessEntry(1, 0, path="/usr/bin/bash"))
    child = processes.forked(ProcessEntry(2, SECOND, parent=1, started=7, mount_namespace=3, pid_namespace=4))
    assert child.path == "/usr/bin/bash"
    seen = ProcessEntry(2, 2 * SECOND, "dig", "/usr/bin/dig", parent=1, started=8, mount_namespace=5, pid_namespace=6)
    processes.executed(2 * SECOND, seen)
    assert processes.at(2, SECOND) is child
    assert (child.name, child.path, child.parent) == ("dig", "/usr/bin/dig", 1)
    assert (child.started, child.mount_namespace, child.pid_namespace) == (7, 5, 6)


def test_an_exit_is_reported_once():
    """A second exit of a process is ignored."""
    processes = table(ProcessEntry(7, SECOND))
    assert processes.exited(2 * SECOND, ProcessEntry(7, 2 * SECOND)) is not None
    assert processes.exited(2 * SECOND + 1, ProcessEntry(7, 2 * SECOND + 1)) is None


def test_the_exit_of_an_unknown_process_is_reported():
    """An exit of an unknown process adds it as ended."""
    processes = table()
    entry = processes.exited(SECOND, ProcessEntry(7, SECOND, "gone"))
    assert (entry.name, entry.ended) == ("gone", SECOND)


def test_process_found_twice_is_one():
    """A process from /proc whose fork was reported is not added again, although /proc's clock is coarser."""
    processes = table(ProcessEntry(7, 5 * SECOND, path="/seen"))
    assert processes.add(ProcessEntry(7, 5 * SECOND - TICK, path="/proc")).path == "/seen"
    assert len(processes) == 1


def test_table_is_bounded_and_counts():
    """Beyond the bound the process that ended first is evicted, else the oldest; evictions are counted."""
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
    """In any order of events the table keeps its bound, and each pid has at most one running process."""
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
        entries = processes._entries
        assert sum(map(len, entries.values())) == len(processes) <= most
        for ordered in entries.values():
            assert [entry.start for entry in ordered] == sorted(entry.start for entry in ordered)
            assert sum(not entry.ended for entry in ordered) <= 1
        processes.forget(stamp)


def test_a_process_is_read_from_proc():
    """A process is read from /proc with its name, path, parent, user, namespaces, and its start in both clocks."""
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as child:
        began = time.monotonic_ns()
        entry = read_process(child.pid)
        assert entry.path == executable(child.pid) == os.path.realpath("/bin/sh")
        assert (entry.name, entry.parent, entry.user) == ("sh", os.getpid(), os.geteuid())
        assert began - 5 * SECOND < entry.start <= began
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        assert entry.started == pytest.approx(entry.start + boot, abs=SECOND // 10)
        spaces = [Path(f"/proc/self/ns/{kind}").stat().st_ino for kind in ("mnt", "pid")]
        assert [entry.mount_namespace, entry.pid_namespace] == spaces
        assert child.pid in set(process_ids())
        child.stdin.close()
    assert read_process(child.pid) is None
    assert executable(child.pid) == ""
    assert list(sockets_of(child.pid)) == []
    assert cgroup_path(child.pid) == ""


def test_name_with_blanks_and_brackets_is_read_whole():
    """A process whose name contains blanks and brackets is read correctly."""
    rename = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') S 1 (x', 0, 0, 0)"
    code = f"{rename}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        entry = read_process(child.pid)
        assert (entry.name, entry.parent) == (") S 1 (x", os.getpid())
        child.stdin.close()
