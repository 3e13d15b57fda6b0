from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.getaddrinfo import library_thread
from dnstrail_probe.ebpf.getaddrinfo.library_thread import LibraryThread
from dnstrail_probe.ebpf.source import EbpfSource
from dnstrail_probe.host.process_root import identity
from live.processes import wait_until
from live.watched_libraries import Watches, other_root, own_library


@contextmanager
def running(
    watch: Callable[[int, int], tuple[int, ...]], counters: Counter[str], processes: list[int] | None = None
) -> Iterator[LibraryThread]:
    """Run the thread on a host that has these processes alone; this process by default."""
    running = [os.getpid()] if processes is None else processes
    thread = LibraryThread(watch, counters, EbpfSource.capabilities, processes=lambda: running)
    try:
        yield thread
    finally:
        thread.close()


def test_libraries_in_use_are_watched_from_the_start_to_the_end():
    """The libraries in use are watched once the constructor returns, and released when the thread is closed."""
    watches, own = Watches(), own_library()
    with running(watches, Counter()):
        assert watches.now == {own}
    assert watches.now == set()


def test_a_started_process_is_examined(tmp_path):
    """The library of a process that was reported is watched."""
    watches, processes = Watches(), [os.getpid()]
    with running(watches, Counter(), processes) as thread, other_root(tmp_path) as (pid, library):
        processes.append(pid)
        thread.process_started(pid)
        wait_until(lambda: identity(library.stat()) in watches.now, "the library")


def test_a_starting_container_is_polled(tmp_path):
    """The library of a container that was reported is watched once its process has the container's root."""
    watches, processes = Watches(), [os.getpid()]
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cgroup.procs").write_text("")
    with running(watches, Counter(), processes) as thread, other_root(tmp_path) as (pid, library):
        processes.append(pid)
        thread.container_starting(str(cgroup))
        wait_until(lambda: thread._finder.wait == library_thread._POLL, "the polling")
        (cgroup / "cgroup.procs").write_text(f"{pid}\n")
        wait_until(lambda: identity(library.stat()) in watches.now, "the library")


def test_a_dropped_report_is_made_up_for(tmp_path, monkeypatch):
    """A report that finds the queue full is counted, and the next sweep examines all processes."""
    monkeypatch.setattr(library_thread, "_MOST_WAITING", 1)
    monkeypatch.setattr(library_thread, "_SWEEP", 0.1)
    monkeypatch.setattr(library_thread, "_AGAIN", 0.0)
    watches, counters = Watches(), Counter()
    with other_root(tmp_path) as (pid, library), running(watches, counters, [os.getpid(), pid]) as thread:
        library.with_name("new").write_bytes(library.read_bytes())
        library.with_name("new").rename(library)
        while not counters["starts_dropped"]:
            thread.process_started(os.getpid())
        wait_until(lambda: identity(library.stat()) in watches.now, "the library that was not reported")


def test_a_file_that_hangs_holds_up_nothing_else(monkeypatch):
    """While a file system hangs, reports wait in a bounded queue, and those beyond the bound are counted."""
    monkeypatch.setattr(library_thread, "_MOST_WAITING", 3)
    monkeypatch.setattr(library_thread, "_PATIENCE", 0.05)
    monkeypatch.setattr(library_thread, "_FAREWELL", 0.05)
    own_library()
    release, counters = threading.Event(), Counter()

    def hang(_file: int, _offset: int) -> tuple[int, ...]:
        release.wait()
        return ()

    thread = LibraryThread(hang, counters, EbpfSource.capabilities, processes=lambda: [os.getpid()])
    for _ in range(5):
        thread.process_started(os.getpid())
    assert counters["starts_dropped"] == 2
    thread.close()
    release.set()
    thread._thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")
def test_the_thread_keeps_only_its_capabilities():
    """The thread drops all capabilities but its own; this process keeps them all."""
    found: dict[str, str] = {}

    def note(_file: int, _offset: int) -> tuple[int, ...]:
        found["thread"] = effective("thread-self")
        return ()

    own_library()
    before = effective("self")
    with running(note, Counter()):
        assert int(found["thread"], 16) == int(before, 16) & (1 << 39 | 1 << 19)  # CAP_BPF, CAP_SYS_PTRACE
    assert effective("self") == before


def effective(process: str) -> str:
    """Return the effective capabilities of a process or thread."""
    with Path(f"/proc/{process}/status").open(encoding="ascii", errors="replace") as status:
        return next(line.split()[1] for line in status if line.startswith("CapEff:"))


def test_the_limit_of_descriptors_is_raised():
    """A process raises its limit of descriptors to three for each library, as far as its hard limit allows."""
    code = (
        "import resource as r; from dnstrail_probe.ebpf.getaddrinfo import library_thread as l; "
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 5000)); l._raise_descriptor_limit(); print(*r.getrlimit(r.RLIMIT_NOFILE)); "
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 100)); l._raise_descriptor_limit(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4096", "5000", "100", "100"]
