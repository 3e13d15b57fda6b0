from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.getaddrinfo import library_finder as libraries
from dnstrail_probe.ebpf.getaddrinfo import uprobes as watched_files
from dnstrail_probe.ebpf.getaddrinfo.c_library import c_libraries
from dnstrail_probe.ebpf.getaddrinfo.elf import function_offset
from dnstrail_probe.ebpf.getaddrinfo.library_finder import LibraryFinder
from dnstrail_probe.ebpf.getaddrinfo.process_root import Identity, identity, open_root
from live.getaddrinfo_program import make_root
from live.processes import wait_until


class Watches:
    """What was watched, and what of it still is: each by a descriptor that can be told from others."""

    def __init__(self) -> None:
        self.places: dict[Identity, int] = {}
        self.open: dict[int, Identity] = {}
        self.watched: list[Identity] = []

    def __call__(self, file: int, offset: int) -> tuple[int, ...]:
        """As the kernel would: a descriptor for a place in a file."""
        which = identity(os.fstat(file))
        self.places[which] = offset
        self.watched.append(which)
        end, other = os.pipe()
        os.close(other)
        self.open[end] = which
        return (end,)

    @property
    def now(self) -> set[Identity]:
        """The files whose descriptors have not been closed."""
        return {which for end, which in list(self.open.items()) if Path(f"/proc/self/fd/{end}").exists()}


@contextmanager
def watching(watch: Callable[[int, int], tuple[int, ...]], counters: Counter[str]) -> Iterator[LibraryFinder]:
    """The table of libraries, with its thread; but this process keeps what it may do."""
    table = LibraryFinder(watch, counters, ())
    try:
        yield table
    finally:
        table.close()


@pytest.fixture(autouse=True)
def _keep_capabilities(monkeypatch):
    monkeypatch.setattr(libraries, "keep_capabilities", lambda *_: None)


@pytest.fixture
def own() -> Identity:
    """The C library of this process."""
    with open_root(os.getpid()) as root:
        for file in c_libraries(os.getpid(), root):
            if function_offset(partial(os.pread, file), "getaddrinfo") is not None:
                return identity(os.fstat(file))
    pytest.skip("this Python has no C library of its own")


@contextmanager
def elsewhere(folder: Path) -> Iterator[tuple[int, Path]]:
    """A process with another root, in which there are its program, loader and C library alone; and where that is."""
    if os.geteuid() != 0:
        pytest.skip("only root can change roots")
    library = make_root(folder, Path("/bin/cat"))
    with subprocess.Popen(["chroot", folder, "/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdin.write(b"runs\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"runs\n"
            yield process.pid, library
        finally:
            process.kill()


def test_a_library_that_is_in_use_is_watched(own):
    """What runs already is watched at once, where its function is, and no more after the end."""
    watches, counters = Watches(), Counter()
    with watching(watches, counters):
        assert own in watches.now
        assert counters["libraries_watched"] == len(watches.places)
        assert all(offset > 0 for offset in watches.places.values())
    assert watches.now == set()


def test_a_library_below_another_root(own, tmp_path):
    """A process that starts below a root of its own brings its own library, which is watched when it is told of."""
    watches, counters = Watches(), Counter()
    with watching(watches, counters) as table, elsewhere(tmp_path) as (pid, library):
        before = watches.now
        table.look(pid)
        wait_until(lambda: len(watches.now) > len(before), "the library")
        assert watches.now - before == {identity(library.stat())}


def test_a_library_that_nobody_uses_is_let_go(own, tmp_path, monkeypatch):
    """When no process has the root any more, its library is let go, so that it can be unmounted; ours stays."""
    monkeypatch.setattr(libraries, "_SWEEP", 0.05)
    watches = Watches()
    with watching(watches, Counter()) as table:
        with elsewhere(tmp_path) as (pid, _):
            table.look(pid)
            wait_until(lambda: len(watches.now) > 1, "the library")
        wait_until(lambda: watches.now == {own}, "the end of it")


def test_a_library_is_watched_once(own):
    """However many processes are told of, each library is watched once."""
    watches, counters = Watches(), Counter()
    with watching(watches, counters) as table:
        for _ in range(23):
            table.look(os.getpid())
        wait_until(table._begun.empty, "all of them")
    assert len(watches.open) == len(watches.places) == counters["libraries_watched"]


def test_a_new_library_behind_an_old_name(own, tmp_path, monkeypatch):
    """After a library was replaced, what starts with it is watched, too, though program and root are the same."""
    monkeypatch.setattr(libraries, "_AGAIN", 0.0)
    watches = Watches()
    with watching(watches, Counter()) as table, elsewhere(tmp_path) as (pid, library):
        table.look(pid)
        wait_until(lambda: len(watches.now) > 1, "the library")
        before = watches.now
        shutil.copy(library, tmp_path / "new")
        (tmp_path / "new").rename(library)
        table.look(pid)
        wait_until(lambda: identity(library.stat()) in watches.now, "the new one")
        assert before < watches.now


def test_a_refusal_is_counted_and_nothing_else_is_lost(own):
    """Where the kernel refuses one library, that is counted, and the thread goes on."""
    counters: Counter[str] = Counter()

    def refuse(_file: int, _offset: int) -> tuple[int, ...]:
        raise OSError("no uprobes")

    with watching(refuse, counters) as table:
        assert counters["libraries_refused"] >= 1
        assert counters["libraries_watched"] == 0
        table.look(os.getpid())
        wait_until(table._begun.empty, "the next")


ERRORS = OSError(5, "Input/output error"), ValueError("odd"), UnicodeEncodeError("ascii", "\xe9", 0, 1, "odd")


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_file_that_cannot_be_read_stops_nobody(own, monkeypatch, error):
    """Whatever reading a file raises, that is counted, the thread goes on, and the file is tried again later."""
    monkeypatch.setattr(libraries, "_AGAIN", 0.0)

    def fails(*_: object) -> int:
        raise error

    watches, counters = Watches(), Counter()
    with monkeypatch.context() as broken:
        broken.setattr(watched_files, "function_offset", fails)
        table = LibraryFinder(watches, counters, ())
        assert counters["libraries_refused"] >= 1
        assert not watches.places
    table.look(os.getpid())
    wait_until(lambda: own in watches.now, "the library")
    table.close()


def test_what_came_too_fast_is_looked_at_later(own, tmp_path, monkeypatch):
    """Where the queue was full all processes are looked at with the next sweep, so that none stays unwatched."""
    monkeypatch.setattr(libraries, "_WAITING", 1)
    monkeypatch.setattr(libraries, "_SWEEP", 0.1)
    watches, counters = Watches(), Counter()
    with watching(watches, counters) as table, elsewhere(tmp_path) as (_, library):
        monkeypatch.setattr(libraries, "_AGAIN", 0.0)
        while not counters["starts_dropped"]:
            table.look(os.getpid())
        wait_until(lambda: identity(library.stat()) in watches.now, "the library that nobody told of")


def test_a_library_that_is_written_over(own, tmp_path, monkeypatch):
    """A file that was written over in place is watched anew: its function may be elsewhere now."""
    monkeypatch.setattr(libraries, "_AGAIN", 0.0)
    watches = Watches()
    with watching(watches, Counter()) as table, elsewhere(tmp_path) as (pid, library):
        table.look(pid)
        wait_until(lambda: identity(library.stat()) in watches.now, "the library")
        first = dict(watches.open)
        with library.open("ab") as file:
            file.write(b"more")
        table.look(pid)
        wait_until(lambda: len(watches.watched) == len(first) + 1, "it anew")
        assert watches.watched[-1] == identity(library.stat())


def test_the_number_of_libraries_is_bounded(own, monkeypatch):
    """Past the bound a library is counted and not watched."""
    monkeypatch.setattr(watched_files, "MOST_FILES", 0)
    watches, counters = Watches(), Counter()
    with watching(watches, counters):
        assert counters["libraries_dropped"] >= 1
    assert not watches.places


def test_a_file_that_does_not_answer_stops_nobody(own, monkeypatch):
    """While a file system holds the thread up, processes wait in a bounded queue, and what is too much is counted."""
    monkeypatch.setattr(libraries, "_WAITING", 3)
    monkeypatch.setattr(libraries, "_PATIENCE", 0.05)
    held, counters = threading.Event(), Counter()

    def hold(_file: int, _offset: int) -> tuple[int, ...]:
        held.wait()
        return ()

    table = LibraryFinder(hold, counters, ())
    for _ in range(5):
        table.look(os.getpid())
    assert counters["starts_dropped"] == 2
    table.close()
    held.set()
    table._thread.join()


def test_a_file_that_lies_about_itself(own, tmp_path):
    """A program whose tables lie where no file has anything is passed over, and the thread goes on to the next."""
    with elsewhere(tmp_path) as (pid, library):
        forged = bytearray(library.read_bytes())
        forged[40:48] = b"\xff" * 8  # where its sections are
        (tmp_path / "forged").write_bytes(forged)
        (tmp_path / "forged").rename(library)
        watches = Watches()
        with watching(watches, Counter()) as table:
            table.look(pid)
            wait_until(table._begun.empty, "that one")
            table.look(os.getpid())
            wait_until(table._begun.empty, "the next")
            assert table._thread.is_alive()
            assert set(watches.places) == {own}


def test_a_container_that_starts(own, tmp_path):
    """The library below the root that a container's process has is watched before its program runs, by its cgroup."""
    watches = Watches()
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cgroup.procs").write_text(f"0\n{os.getpid()}\n")  # first it still has the root of the host
    with watching(watches, Counter()) as table, elsewhere(tmp_path) as (pid, library):
        table.look_into(str(cgroup))
        wait_until(lambda: str(cgroup) in table._starting, "it to be looked at")
        assert watches.now == {own}
        (cgroup / "cgroup.procs").write_text(f"{os.getpid()}\n{pid}\n")
        wait_until(lambda: not table._starting, "its own root")
        assert identity(library.stat()) in watches.now


@pytest.mark.parametrize("how", ["gone", "late"])
def test_a_container_that_does_not_start(own, tmp_path, monkeypatch, how):
    """A cgroup that goes, or in which nothing begins for long, is looked at no more."""
    monkeypatch.setattr(libraries, "_START", 0.05)
    watches = Watches()
    if how == "late":
        (tmp_path / "cgroup.procs").write_text("")
    with watching(watches, Counter()) as table:
        table.look_into(str(tmp_path))
        table.look(os.getpid())
        wait_until(lambda: table._begun.empty() and not table._starting, "the end of it")
        assert table._thread.is_alive()


def test_endless_containers(own, tmp_path, monkeypatch):
    """Of very many containers that start at once so many are looked at."""
    monkeypatch.setattr(libraries, "_MOST_STARTING", 3)
    (tmp_path / "cgroup.procs").write_text("")
    with watching(Watches(), Counter()) as table:
        for number in range(10):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "cgroup.procs").write_text("")
            table.look_into(str(tmp_path / str(number)))
        wait_until(table._begun.empty, "all of them")
        assert len(table._starting) == 3


@pytest.mark.parametrize("pid", [0, 1 << 22])
def test_a_process_that_is_not_there(own, pid):
    """A process that has ended by then, or that was none, brings nothing."""
    watches = Watches()
    with watching(watches, Counter()) as table:
        before = set(watches.places)
        table.look(pid)
        table.look(os.getpid())
        wait_until(table._begun.empty, "both")
    assert set(watches.places) == before


def test_programs_that_are_linked_to_nothing_have_no_library(tmp_path):
    """A static program is passed over; one with a loader is not."""
    source = tmp_path / "wait.c"
    source.write_text("#include <unistd.h>\nint main(void) { char c; write(1, &c, 1); return read(0, &c, 1); }\n")
    if shutil.which("gcc") is None:
        pytest.skip("missing: gcc")
    for option, some in (("-static", False), ("-O1", True)):
        subprocess.run(["gcc", option, "-w", "-o", tmp_path / "wait", source], check=True, capture_output=True)
        with subprocess.Popen([tmp_path / "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.read(1)
            with open_root(process.pid) as root:
                assert bool(list(c_libraries(process.pid, root))) is some
            process.communicate(b"x")


def test_as_many_descriptors_as_libraries_may_need():
    """A process that is allowed more descriptors than it has takes as many as two for each library need."""
    code = (
        "import resource as r; from dnstrail_probe.ebpf.getaddrinfo import library_finder as l; "
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 4000)); l._make_room(); print(*r.getrlimit(r.RLIMIT_NOFILE)); "
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 100)); l._make_room(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3072", "4000", "100", "100"]
