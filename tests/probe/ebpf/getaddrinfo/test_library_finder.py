from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.getaddrinfo import library_thread, uprobes
from dnstrail_probe.ebpf.getaddrinfo.elf import c_libraries
from dnstrail_probe.ebpf.getaddrinfo.library_thread import LibraryFinder
from dnstrail_probe.ebpf.getaddrinfo.uprobes import UprobeTable
from dnstrail_probe.host.process_root import Identity, identity, open_root
from live.users import USER, program_of
from live.watched_libraries import Watches, other_root, own_library

NOW = 1000.0
SWEEP, AGAIN, START = library_thread._SWEEP, library_thread._AGAIN, library_thread._START


class Finding:
    """A finder on a host that has these processes alone, whatever else runs."""

    def __init__(self, watch: Callable[[int, int], tuple[int, ...]]) -> None:
        self.counters: Counter[str] = Counter()
        self.files = UprobeTable(watch, self.counters, threading.Event())
        self.processes = [os.getpid()]
        self.finder = LibraryFinder(self.files, self.counters, lambda: self.processes)


@pytest.fixture
def own() -> Identity:
    """Return the C library of this process."""
    return own_library()


@pytest.fixture
def watches() -> Watches:
    """Return the libraries that are watched."""
    return Watches()


@pytest.fixture
def finding(watches: Watches) -> Iterator[Finding]:
    """Yield a finder on a host with this process alone."""
    made = Finding(watches)
    yield made
    made.files.close()


def test_a_library_in_use_is_watched(own, watches, finding):
    """The library of a running process is watched at the offset of its function, until the table is closed."""
    finding.finder.examine_all(NOW)
    assert watches.now == {own}
    assert finding.counters["libraries_watched"] == len(watches.places)
    assert all(offset > 0 for offset in watches.places.values())
    finding.files.close()
    assert watches.now == set()


def test_a_library_below_another_root_is_watched(own, watches, finding, tmp_path):
    """A process below a root of its own has a library of its own, which is watched as well."""
    finding.finder.examine_all(NOW)
    with other_root(tmp_path) as (pid, library):
        finding.finder.examine(pid, NOW)
        assert watches.now == {own, identity(library.stat())}


def test_a_library_that_no_process_uses_is_released(own, watches, finding, tmp_path):
    """Once no process has its root, a sweep releases a library, so that it can be unmounted."""
    finding.finder.examine_all(NOW)
    with other_root(tmp_path) as (pid, _):
        finding.processes = [os.getpid(), pid]
        finding.finder.examine(pid, NOW)
        finding.finder.advance(NOW)
        assert len(watches.now) == 2
    finding.processes = [os.getpid()]
    finding.finder.advance(NOW + SWEEP)
    for thread in threading.enumerate():
        if thread.name == "unused uprobes":
            thread.join()
    assert watches.now == {own}


def test_a_library_is_watched_once(own, watches, finding):
    """A library is watched once, however many processes use it."""
    for number in range(23):
        finding.finder.examine(os.getpid(), NOW + number * AGAIN)
    assert watches.watched == [own]
    assert finding.counters["libraries_watched"] == 1


def test_a_program_is_examined_once_a_second(own, watches, finding, tmp_path):
    """A library that replaces another one is watched when its program is examined again, a second later."""
    with other_root(tmp_path) as (pid, library):
        finding.finder.examine(pid, NOW)
        first = watches.now
        shutil.copy(library, tmp_path / "new")
        (tmp_path / "new").rename(library)
        finding.finder.examine(pid, NOW + AGAIN / 2)
        assert watches.now == first
        finding.finder.examine(pid, NOW + AGAIN)
        assert watches.now == {*first, identity(library.stat())}


def test_examined_programs_are_bounded(finding, monkeypatch, tmp_path):
    """Beyond the bound the program that was examined first is forgotten."""
    monkeypatch.setattr(library_thread, "_REMEMBERED", 1)
    with other_root(tmp_path) as (pid, _):
        finding.finder.examine(os.getpid(), NOW)
        first = set(finding.finder._examined)
        finding.finder.examine(pid, NOW)
    assert len(finding.finder._examined) == 1
    assert first.isdisjoint(finding.finder._examined)


def test_a_refusal_is_counted(own):
    """A refusal of the kernel is counted, and the finder continues."""

    def refuse(_file: int, _offset: int) -> tuple[int, ...]:
        raise OSError("no uprobes")

    finding = Finding(refuse)
    finding.finder.examine_all(NOW)
    assert finding.counters == {"libraries_refused": 1, "libraries_watched": 0}


ERRORS = OSError(5, "Input/output error"), ValueError("odd"), UnicodeEncodeError("ascii", "\xe9", 0, 1, "odd")


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_any_error_of_a_file_is_counted(own, watches, finding, monkeypatch, error):
    """Any error that a file causes is counted, and the file is examined again later."""

    def fails(*_: object) -> int:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(uprobes, "function_offset", fails)
        finding.finder.examine_all(NOW)
    assert finding.counters["libraries_refused"] >= 1
    assert not watches.places
    finding.finder.examine_all(NOW + AGAIN)
    assert watches.now == {own}


def test_unreported_processes_are_examined_by_the_next_sweep(own, watches, finding, tmp_path):
    """After a report was lost, the next sweep examines all processes; otherwise it does not."""
    with other_root(tmp_path) as (pid, library):
        finding.finder.advance(NOW)
        finding.processes = [os.getpid(), pid]
        finding.finder.advance(NOW + SWEEP)
        assert watches.now == set()
        finding.finder.examine_all_later()
        finding.finder.advance(NOW + 1.5 * SWEEP)
        assert watches.now == set()
        finding.finder.advance(NOW + 2 * SWEEP)
        assert watches.now == {own, identity(library.stat())}


def test_an_overwritten_library_is_watched_anew(own, watches, finding, tmp_path):
    """A file that was overwritten in place is watched anew: its function can have moved."""
    with other_root(tmp_path) as (pid, library):
        finding.finder.examine(pid, NOW)
        with library.open("ab") as file:
            file.write(b"more")
        finding.finder.examine(pid, NOW + AGAIN)
        assert watches.watched == [identity(library.stat())] * 2
        assert len(watches.now) == 1


def test_the_number_of_libraries_is_bounded(own, watches, finding, monkeypatch, tmp_path):
    """Beyond the bound a library is counted and not watched; the others stay watched."""
    finding.finder.examine_all(NOW)
    monkeypatch.setattr(uprobes, "MOST_FILES", 1)
    with other_root(tmp_path) as (pid, _):
        finding.finder.examine(pid, NOW)
    assert finding.counters["libraries_dropped"] >= 1
    assert watches.now == {own}


def test_a_user_cannot_fill_the_table(own, watches, finding, tmp_path):
    """A user with as many files as the table holds takes a share of it: the library of another user is watched."""
    with program_of(USER) as pid:
        for number in range(uprobes.MOST_FILES):
            watch_fake(finding.files, pid, tmp_path / str(number))
        assert finding.counters["libraries_dropped"] == uprobes.MOST_FILES - uprobes.MOST_OF_ONE
        finding.finder.examine_all(NOW)
        assert watches.now == {own}


def test_deleted_files_give_way(own, watches, finding, tmp_path):
    """A library that was deleted stays watched until its place is needed."""
    with program_of(USER) as pid:
        for number in range(uprobes.MOST_OF_ONE):
            watch_fake(finding.files, pid, tmp_path / str(number))
            (tmp_path / str(number)).unlink()
        assert len(finding.files._files) == uprobes.MOST_OF_ONE
        watch_fake(finding.files, pid, tmp_path / "new")
        assert [*finding.files._files] == [identity((tmp_path / "new").stat())]
    assert not finding.counters["libraries_dropped"]


def test_the_root_of_a_container_has_a_share_of_its_own(finding, tmp_path):
    """Files of root in another mount namespace take no room from the host."""
    with program_of(0, "unshare", "--mount", "cat") as pid:
        for number in range(uprobes.MOST_OF_ONE + 1):
            watch_fake(finding.files, pid, tmp_path / str(number))
        assert finding.counters["libraries_dropped"] == 1
        watch_fake(finding.files, os.getpid(), tmp_path / "own")
    assert finding.counters["libraries_dropped"] == 1


def test_a_program_is_examined_for_each_user(own, watches, finding, monkeypatch):
    """A program whose library found no room for a user is examined at once for another one."""
    with monkeypatch.context() as full:
        full.setattr(uprobes, "MOST_OF_ONE", 0)
        with program_of(USER) as pid:
            finding.finder.examine(pid, NOW)
    assert watches.now == set()
    with program_of(0) as pid:
        finding.finder.examine(pid, NOW)
    assert watches.now == {own}


def watch_fake(files: UprobeTable, pid: int, path: Path) -> None:
    """Watch a file that a process has in place of a C library."""
    path.write_bytes(b"no library")
    with path.open("rb") as file:
        files.watch(pid, file.fileno(), (0, 0))


def test_a_forged_file_is_skipped(own, watches, finding, tmp_path):
    """A library whose tables lie beyond its end is skipped, and the next process is examined."""
    with other_root(tmp_path) as (pid, library):
        forged = bytearray(library.read_bytes())
        forged[40:48] = b"\xff" * 8  # the offset of its sections
        (tmp_path / "forged").write_bytes(forged)
        (tmp_path / "forged").rename(library)
        finding.finder.examine(pid, NOW)
        finding.finder.examine_all(NOW)
        assert set(watches.places) == {own}


def link_to_a_pipe(path):
    """Make a link to a pipe that lies outside of the root."""
    os.mkfifo(path.parents[2] / "pipe")
    path.symlink_to(path.parents[2] / "pipe")


@pytest.mark.parametrize("make", [os.mkfifo, link_to_a_pipe, os.mkdir])
def test_a_library_that_is_no_file_is_skipped(own, watches, finding, tmp_path, make):
    """A pipe without a writer in the place of a library is never opened, and the next process is examined."""
    with other_root(tmp_path) as (pid, library):
        library.unlink()
        make(library)
        finding.finder.examine(pid, NOW)
        finding.finder.examine_all(NOW)
        assert set(watches.places) == {own}


def test_the_library_of_a_starting_container_is_watched(own, watches, finding, tmp_path):
    """A library is watched as soon as a process of the container's cgroup has the container's root."""
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cgroup.procs").write_text(f"0\n{os.getpid()}\n")  # a process that has the host's root
    with other_root(tmp_path) as (pid, library):
        finding.finder.expect_container(str(cgroup), NOW)
        finding.finder.advance(NOW)
        assert watches.now == set()
        assert finding.finder.wait < SWEEP
        (cgroup / "cgroup.procs").write_text(f"{os.getpid()}\n{pid}\n")
        finding.finder.advance(NOW + 2 * finding.finder.wait)
        assert watches.now == {identity(library.stat())}
        assert finding.finder.wait == SWEEP


@pytest.mark.parametrize(("exists", "end"), [(False, 0.0), (True, START + 0.01)], ids=["gone", "late"])
def test_polling_of_a_container_ends(finding, tmp_path, exists, end):
    """A cgroup that is gone, or in which nothing starts for five seconds, is polled no longer."""
    if exists:
        (tmp_path / "cgroup.procs").write_text("")
    finding.finder.expect_container(str(tmp_path), NOW)
    finding.finder.advance(NOW + end)
    assert finding.finder.wait == SWEEP


def test_starting_containers_are_bounded(finding, monkeypatch):
    """Beyond the bound a starting container is not polled."""
    monkeypatch.setattr(library_thread, "_MOST_STARTING", 3)
    for number in range(10):
        finding.finder.expect_container(f"/{number}", NOW)
    assert len(finding.finder._starting) == 3


@pytest.mark.parametrize("pid", [0, 1 << 22])
def test_a_process_that_has_ended_has_no_library(watches, finding, pid):
    """A pid without a process is skipped."""
    finding.finder.examine(pid, NOW)
    assert not watches.places
    assert not +finding.counters


def test_a_static_program_has_no_library(tmp_path):
    """A static program has no C library; a program with a loader has one."""
    source = tmp_path / "wait.c"
    source.write_text("#include <unistd.h>\nint main(void) { char c; write(1, &c, 1); return read(0, &c, 1); }\n")
    if shutil.which("gcc") is None:
        pytest.skip("missing: gcc")
    for option, some in (("-static", False), ("-O1", True)):
        program = tmp_path / f"wait{option}"
        subprocess.run(["gcc", option, "-w", "-o", program, source], check=True, capture_output=True)
        with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.read(1)
            with open_root(process.pid) as root:
                assert bool(list(c_libraries(process.pid, root))) is some
            process.communicate(b"x")


def test_the_processes_of_the_host_are_examined(own, watches):
    """Without a list of its own a finder examines the processes of the host, of which this one is one."""
    counters: Counter[str] = Counter()
    files = UprobeTable(watches, counters, threading.Event())
    LibraryFinder(files, counters).examine_all(NOW)
    assert own in watches.now
    files.close()
