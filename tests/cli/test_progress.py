from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from dnstrail_cli.progress import PATIENCE, ReadProgress, position_in
from live.workers import FakeClock


@pytest.fixture
def console() -> Console:
    """Return a terminal of 80 columns whose text can be read."""
    return Console(file=io.StringIO(), force_terminal=True, width=80)


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "evil\x1b[2J.pcap"
    path.write_bytes(bytes(1000))
    return str(path)


def test_a_reader_of_several_files_states_their_size(console):
    """The part that was read is one of the size that the reader states, which may not be known at first."""
    clock, sizes = FakeClock(), iter([400])
    progress = ReadProgress("history", clock, lambda: 100, console, size=lambda: next(sizes))
    clock.monotonic_time += PATIENCE
    progress.tick()
    progress.close()
    assert "history" in console.file.getvalue()
    assert "25%" in console.file.getvalue()


def test_a_bar_appears_after_a_second(console, capture):
    """A file that takes longer than a second gets a bar with the part that was read; before, nothing is shown."""
    clock, position = FakeClock(), 0
    progress = ReadProgress(capture, clock, lambda: position, console)
    progress.tick()
    clock.monotonic_time += PATIENCE - 0.01
    progress.tick()
    assert console.file.getvalue() == ""
    clock.monotonic_time += 0.01
    position = 250
    progress.tick()
    assert "25%" in console.file.getvalue()
    position = 500
    progress.tick()
    assert "50%" not in console.file.getvalue()
    clock.monotonic_time += 0.2
    progress.tick()
    assert "50%" in console.file.getvalue()
    progress.close()
    clock.monotonic_time += 5
    progress.tick()
    assert "\x1b[2J" not in console.file.getvalue()
    assert "evil\\x1b" in console.file.getvalue()


def test_no_bar_without_a_terminal(capture, monkeypatch, capsys):
    """Where stderr is no terminal, nothing is ever shown."""
    clock = FakeClock()
    progress = ReadProgress(capture, clock, lambda: pytest.fail("nobody looks"))
    clock.monotonic_time += 100
    progress.tick()
    progress.close()
    assert capsys.readouterr().err == ""


def test_an_unknown_position_has_a_bar_without_a_part(console):
    """A pipe has a bar, too, although its size and position are unknown."""
    clock = FakeClock()
    progress = ReadProgress("/dev/stdin", clock, lambda: None, console)
    clock.monotonic_time += PATIENCE
    progress.tick()
    progress.close()
    assert "reading stdin" in console.file.getvalue()


def test_position_of_a_process_in_a_file(capture, tmp_path):
    """The position is that of the descriptor by which the process reads the file, and None where it does not."""
    assert position_in(capture) is None
    with open(capture, "rb", buffering=0) as file:  # noqa: PTH123 - the position is that of the descriptor
        file.read(300)
        assert position_in(capture) == 300
        assert position_in(capture, os.getpid()) == 300
    assert position_in(str(tmp_path / "missing")) is None
    assert position_in(capture, 2**22 + 1) is None
