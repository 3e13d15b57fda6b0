"""The child process that reads files of strangers, and the bound on children that hang.

Tests of dnstrail_probe.host.resolv_conf_child.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from dnstrail_probe.host import resolv_conf
from dnstrail_probe.host.resolv_conf import MAX_HANGING, ResolvConfReader
from live.hanging_file_system import hanging_file_system
from live.namespaces import live_or_skip
from live.processes import alive, children_of, command_line, text_of, wait_until

SERVERS = frozenset({ip_address("192.0.2.53").packed, ip_address("2001:db8::53").packed})
TEXT = "nameserver 192.0.2.53\nnameserver 2001:db8::53\n"
OPENAT2 = "437 "
HOLDER = """
import sys
from collections import Counter
from dnstrail_probe.host.resolv_conf import ResolvConfReader
reader = ResolvConfReader(Counter(), "/proc")
reader.start()
print(reader._child.pid, flush=True)
sys.stdin.read()
"""


def etc(proc: Path, pid: int) -> Path:
    """Make the folder /etc of a process."""
    folder = proc / f"{pid}/root/etc"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def reading(proc: Path, counters: Counter[str]) -> Iterator[ResolvConfReader]:
    """Yield a reader of the processes in a folder."""
    reader = ResolvConfReader(counters, str(proc))
    try:
        yield reader
    finally:
        reader.close()


def readers() -> list[int]:
    """Return the children of this process that read files."""
    return [pid for pid in children_of(os.getpid()) if alive(pid) and "resolv_conf_child" in command_line(pid)]


def test_one_child_reads_many_files(tmp_path):
    """A child replies to each request; a file that is missing is unknown, and is no fault of the child."""
    (etc(tmp_path, 7) / "resolv.conf").write_text(TEXT)
    counters = Counter()
    with reading(tmp_path, counters) as reader:
        assert [reader.read(pid) for pid in (7, 8, 7)] == [SERVERS, None, SERVERS]
        assert len(readers()) == 1
    wait_until(lambda: not readers(), "the end of the child")
    assert not counters["resolv_conf_unread"]


def test_a_child_that_is_killed_is_replaced(tmp_path):
    """The file that a killed child was to read is counted, and the next child reads the next file."""
    (etc(tmp_path, 7) / "resolv.conf").write_text(TEXT)
    counters = Counter()
    with reading(tmp_path, counters) as reader:
        reader.start()
        wait_until(readers, "the child")
        os.kill(readers()[0], 9)
        wait_until(lambda: not readers(), "the end of the child")
        assert [reader.read(7), reader.read(7)] == [None, SERVERS]
    assert counters["resolv_conf_unread"] == 1


def test_a_child_ends_with_its_probe():
    """If the process of a reader is killed, its child ends by itself."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        child = int(holder.stdout.readline())
        assert alive(child)
        holder.kill()
    wait_until(lambda: not alive(child), "the end of the child")


def test_children_that_hang_are_bounded(tmp_path, monkeypatch):
    """Children that no signal ends are left alone up to the bound; once they have ended, files are read again."""
    live_or_skip()
    (etc(tmp_path, 1) / "resolv.conf").write_text(TEXT)
    folder, counters = etc(tmp_path, 2), Counter()
    with reading(tmp_path, counters) as reader:
        with hanging_file_system(folder) as requests:
            for number in range(1, MAX_HANGING + 1):
                hang(reader, monkeypatch, requests, number)
                assert counters["resolv_conf_unread"] == number
            assert reader.read(1) is None
            assert counters["resolv_conf_unread"] == MAX_HANGING + 1
            assert len(readers()) == MAX_HANGING
        wait_until(lambda: not readers(), "the end of the children")
        assert reader.read(1) == SERVERS


def hang(reader: ResolvConfReader, monkeypatch: pytest.MonkeyPatch, requests: int, number: int) -> None:
    """Let the child of this number hang in a file system, and let the reader lose patience once it does."""

    class Impatient:
        register = staticmethod(lambda *_: None)

        def poll(self, _: float) -> bool:
            """Wait until the child hangs: the file system has taken the first request, and the others wait for it."""
            wait_until(lambda: len(readers()) == number, "the command line of the child, which it gets after execve")
            if number == 1:
                assert os.read(requests, 1 << 17)
            calls = [Path(f"/proc/{pid}/syscall") for pid in readers()]
            wait_until(lambda: all(text_of(call).startswith(OPENAT2) for call in calls), "the child to hang")
            return False

    with monkeypatch.context() as patched:
        patched.setattr(resolv_conf.select, "poll", Impatient)
        assert reader.read(2) is None
