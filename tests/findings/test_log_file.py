"""The file of findings: rotation, full disks, and paths that others prepared."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail_findings.writers import log_file
from dnstrail_findings.writers.log_file import LogFile, Stdout, try_file
from live.processes import PATIENCE

LINE = b"x" * 9  # ten bytes with its end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "findings.jsonl"


@contextmanager
def opened(path: Path, size: int = 1000, files: int = 3) -> Iterator[LogFile]:
    writer = LogFile(path, size, files)
    yield writer
    writer.close()


def sizes(path: Path) -> dict[str, int]:
    return {each.name: each.stat().st_size for each in path.parent.iterdir()}


def test_lines_are_appended(path) -> None:
    """Lines are appended to what the file has, which only its user and group can read."""
    path.write_bytes(b"old\n")
    path.chmod(0o600)
    with opened(path) as writer:
        writer.write([b"a", b"b"])
        writer.write([b"c"])
    assert path.read_bytes() == b"old\na\nb\nc\n"
    with opened(path.with_name("new")) as writer:
        writer.write([b"a"])
    assert path.with_name("new").stat().st_mode & 0o027 == 0


def test_a_file_is_rotated_by_size_and_number(path) -> None:
    """No file exceeds its size, and the oldest of the files is removed."""
    with opened(path, 30, 3) as writer:
        for number in range(12):
            writer.write([b"%02d" % number + b"x" * 7])
    assert sizes(path) == {path.name: 30, f"{path.name}.1": 30, f"{path.name}.2": 30}
    lines = b"".join(Path(f"{path}{end}").read_bytes() for end in (".2", ".1", "")).split()
    assert [line[:2] for line in lines] == [b"%02d" % number for number in range(3, 12)]


def test_one_file_alone_is_begun_anew(path) -> None:
    """With one file, rotation removes it."""
    with opened(path, 20, 1) as writer:
        for _ in range(5):
            writer.write([LINE])
    assert sizes(path) == {path.name: 10}


def test_a_batch_longer_than_a_file_is_written(path) -> None:
    """A batch that no file can hold has a file of its own."""
    with opened(path, 15, 2) as writer:
        writer.write([LINE, LINE])
        writer.write([LINE])
    assert sizes(path) == {path.name: 10, f"{path.name}.1": 20}


def test_a_file_that_was_moved_is_made_anew(path) -> None:
    """After logrotate renamed or removed the file, lines go to a new one."""
    with opened(path) as writer:
        writer.write([b"a"])
        path.rename(path.with_name("moved"))
        writer.write([b"b"])
        path.unlink()
        writer.write([b"c"])
    assert (path.with_name("moved").read_bytes(), path.read_bytes()) == (b"a\n", b"c\n")


def test_a_link_is_not_followed(path) -> None:
    """A symbolic link at the path is refused, also one that is put there later, and its target stays as it is."""
    target = path.with_name("target")
    target.write_bytes(b"precious\n")
    path.symlink_to(target)
    with opened(path) as writer:
        with pytest.raises(OSError, match=r"[Ll]ink|symbolic"):
            writer.write([b"a"])
        path.unlink()
        writer.write([b"a"])
        path.unlink()
        path.symlink_to(target)
        with pytest.raises(OSError, match=r"[Ll]ink|symbolic"):
            writer.write([b"b"])
    assert target.read_bytes() == b"precious\n"


def test_a_rotated_name_that_is_a_link_is_replaced(path) -> None:
    """A link at a name of rotation is replaced, and not written through."""
    target = path.with_name("target")
    target.write_bytes(b"precious\n")
    Path(f"{path}.1").symlink_to(target)
    with opened(path, 15, 2) as writer:
        writer.write([LINE])
        writer.write([LINE])
    assert target.read_bytes() == b"precious\n"
    assert not Path(f"{path}.1").is_symlink()


@pytest.mark.parametrize("has_reader", [False, True])
def test_a_fifo_does_not_hang(path, has_reader) -> None:
    """A FIFO at the path is refused at once, whether or not somebody reads it."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if has_reader else None
    with opened(path) as writer, pytest.raises(OSError, match=r"no regular file|No such device"):
        writer.write([b"a"])
    if reader is not None:
        assert os.read(reader, 10) == b""
        os.close(reader)


def test_a_trial_leaves_nothing_behind(path) -> None:
    """A file that is tried is neither made nor changed; a missing folder, a folder and a link are errors."""
    try_file(path)
    assert not [*path.parent.iterdir()]
    path.write_text("kept\n")
    try_file(path)
    assert path.read_text() == "kept\n"
    (path.parent / "link").symlink_to(path)
    for wrong in (path.parent, path.parent / "none" / "f", path.parent / "link"):
        with pytest.raises(OSError, match=r"Is a directory|No such file|symbolic links"):
            try_file(wrong)


def test_a_folder_or_a_missing_folder_is_an_error(path) -> None:
    """A path that cannot be opened is an error that is tried again."""
    path.mkdir()
    for wrong in (path, path.with_name("missing") / "file"):
        with opened(wrong) as writer, pytest.raises(OSError, match=str(wrong.name)):
            writer.write([b"a"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_another_user_is_refused(path) -> None:
    """A file that another user prepared is not written to."""
    path.touch()
    os.chown(path, 12345, 12345)
    with opened(path) as writer, pytest.raises(OSError, match="no regular file of this user"):
        writer.write([b"a"])
    assert path.read_bytes() == b""


FULL = """
    import resource, sys
    from pathlib import Path
    from dnstrail_findings.writers.log_file import LogFile, try_file
    writer = LogFile(Path(sys.argv[1]), 1000, 2)
    writer.write([b"whole"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
    try:
        writer.write([b"x" * 200])
    except OSError as error:
        print(error.strerror)
    writer.write([b"next"])
"""


def test_a_full_disk_leaves_no_part_of_a_line(path) -> None:
    """A batch that does not fit is removed again, so that no line is broken, and a shorter one is written."""
    program = [sys.executable, "-c", textwrap.dedent(FULL), str(path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == b"whole\nnext\n"


GONE = """
    import os, sys
    from dnstrail_findings.output import EndedError
    from dnstrail_findings.writers.log_file import Stdout
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    try:
        Stdout().write([b"x"])
    except EndedError:
        sys.stderr.write("ended")
"""


def test_a_reader_of_stdout_that_left_ends_the_output() -> None:
    """When the reader of stdout has gone, the output wants no more findings."""
    program = [sys.executable, "-c", textwrap.dedent(GONE)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr == "ended"


def test_stdout_has_one_line_for_each_finding(capfd) -> None:
    """Lines go to stdout as they are."""
    Stdout().write([b"a", b"b"])
    assert capfd.readouterr().out == "a\nb\n"


def test_a_line_is_written_once_across_failures(monkeypatch) -> None:
    """What is left of a line after a failure is written when it is tried again: no part is repeated or missing."""
    lines = [b"%d" % number + b"x" * 100_000 for number in range(3)]
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    monkeypatch.setattr(log_file, "_STDOUT", writer)
    made, received, failures = Stdout(), b"", 0
    for line in lines:
        written = False
        while not written:
            try:
                made.write([line])
                written = True
            except BlockingIOError:
                failures += 1
                received += os.read(reader, 10_000)
                assert len(received) <= len(lines) * 100_002, "parts are repeated"
    os.close(writer)
    with open(reader, "rb", buffering=0) as rest:  # noqa: PTH123 - a descriptor
        received += rest.readall()
    assert failures > len(lines)
    assert received.splitlines() == lines
