"""The stdout of commands. Tests of dnstrail.process.command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from live.stopped import read_over_a_stop

COMMAND = """
import click
from dnstrail.process.command import run_command
run_command(click.Command("x", callback=lambda: click.echo("x" * 500_000)), "x")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stop_cuts_no_line(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    """A line that does not fit into the pipe is whole, though the command is stopped and continued meanwhile."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE) as process:
        assert read_over_a_stop(process) == b"x" * 500_000 + b"\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_character_that_stdout_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    """A character that the encoding of stdout lacks is escaped there, as on stderr, and ends no command."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    command = COMMAND.replace('"x" * 500_000', r'"\xe9\u2026"')
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xe9\\u2026\n", b"")
