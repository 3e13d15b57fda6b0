"""The process that writes the files of a run: what it answers, and who can end it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail_run.files import Descriptor, OutputFile, WriterHandle
from live.processes import wait_until

NOBODY = 54321


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[WriterHandle]:
    """Yield a writer of two files."""
    made = WriterHandle([OutputFile("--report", tmp_path / name, None) for name in ("a", "b")])
    yield made
    made.close()


def test_each_file_has_its_text(writer, tmp_path):
    """The writer writes the texts in the order of the files, and reports no change where there was none."""
    assert (writer.changes(), writer.write(["one\n\udcff", "two" * 100_000])) == ([], [])
    assert (tmp_path / "a").read_text() == "one\n\\udcff"
    assert (tmp_path / "b").read_text() == "two" * 100_000


def test_a_fault_costs_no_other_file(writer, tmp_path):
    """A file that was replaced by a folder is named, and the other file is written."""
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    assert writer.write(["one", "two"]) == [f"--report {tmp_path}/a: Is a directory"]
    assert (tmp_path / "b").read_text() == "two"


def test_lines_are_written_at_once(tmp_path):
    """Lines appear in a file while the command runs; what something else writes there is named, and gone at the end."""
    path = tmp_path / "lines"
    path.write_text("of an earlier run\n")
    writer = WriterHandle([OutputFile("--report", tmp_path / "a", None), OutputFile("--refusals", path, None)])
    writer.append(1, "one\n")
    wait_until(lambda: path.read_text() == "one\n", "the line")
    assert writer.changes() == []
    path.write_text("forged\n")
    writer.append(1, "two\n")
    assert writer.changes() == [f"--refusals {path} was changed while the command ran: it is overwritten."]
    assert writer.write(["report", "one\ntwo\n"]) == []
    writer.close()
    assert path.read_text() == "one\ntwo\n"


def test_a_descriptor_gets_lines(tmp_path):
    """Lines go to a pipe until nobody reads it; a descriptor that cannot be written, or that is none, is refused."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    made = Descriptor("--refusals", writing)
    assert not os.get_inheritable(writing)
    assert made.append("one\n")
    assert os.read(reading, 100) == b"one\n"
    while made.append("x" * 1000):
        pass
    with pytest.raises(SettingsError, match=f"--refusals {reading}: not open for writing"):
        Descriptor("--refusals", reading)
    os.close(reading)
    os.close(writing)
    with pytest.raises(SettingsError, match="Bad file descriptor"):
        Descriptor("--refusals", writing)


def test_a_descriptor_never_blocks():
    """A line longer than a page of a pipe is not written; neither are the streams of the command taken."""
    reading, writing = os.pipe()
    made = Descriptor("--refusals", writing)
    capacity = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.write(writing, bytes(capacity - select.PIPE_BUF))
    assert not made.append("x" * (select.PIPE_BUF + 1))
    assert made.append("x" * select.PIPE_BUF)
    os.close(reading)
    os.close(writing)
    for number in range(3):
        with pytest.raises(SettingsError, match=f"--refusals {number}: the command has it, too"):
            Descriptor("--refusals", number)


@pytest.mark.parametrize("length", [300, 777, 1500])
def test_a_terminal_that_nobody_reads_blocks_nothing(length):
    """A line that a terminal does not take at once is lost."""
    reading, writing = os.openpty()
    made = Descriptor("--refusals", writing)
    while made.append("x" * length + "\n"):
        pass
    os.close(reading)
    os.close(writing)


def test_a_number_that_is_no_descriptor_is_refused():
    """A number beyond those of descriptors is refused like one that is not open."""
    with pytest.raises(SettingsError, match=r"--refusals 99999999999: Bad file descriptor"):
        Descriptor("--refusals", 99999999999)


def test_a_writer_that_was_ended_wrote_nothing(writer, tmp_path):
    """A fault names each file if the writer was killed."""
    os.kill(writer._process, signal.SIGKILL)
    faults = [f"--report {tmp_path / name}: the process that writes it was ended" for name in ("a", "b")]
    assert (writer.write(["one", "two"]), writer.changes()) == (faults, faults)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_command_cannot_signal_the_writer(tmp_path, number):
    """A process of the caller cannot signal the writer, which uses files with the rights of this caller."""
    writer = WriterHandle([OutputFile("--report", tmp_path / "a", None)])
    kill = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    done = subprocess.run(
        [*kill, "kill", f"-{number:d}", str(writer._process)], capture_output=True, text=True, check=False
    )
    assert "not permitted" in done.stderr
    assert writer.write(["one"]) == []
    writer.close()


def test_without_files_there_is_no_process():
    """A run that writes nothing has no writer."""
    writer = WriterHandle([])
    assert (writer.changes(), writer.write([]), writer._process) == ([], [], -1)
    writer.close()
