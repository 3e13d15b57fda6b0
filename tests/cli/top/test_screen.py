"""`dnstrail top` in a terminal of 80 columns, and once for a program; with a real cache and its facts.

Tests of dnstrail_cli.top.command.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from builders.dnstap_builders import Writer
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import DNS_TRANSACTION, Event
from dnstrail_cli.top.screen import table_of
from dnstrail_cli.top.views import VIEWS, Totals
from live.processes import PATIENCE, dnstrail, run_dir, wait_until
from live.tapped_resolver import resolved, resolver

WIDTH = 80
HOME = "\x1b[H"
HOSTILE = "\x1b]0;owned\x07\u202e"
FLOW = Flow(bytes([192, 0, 2, 100]), 40000, bytes([192, 0, 2, 53]), 53)


class Terminal:
    """A command with a terminal of 80 columns and 24 lines as its streams; `shown` is all that it has written."""

    def __init__(self, *arguments: str) -> None:
        self.shown = ""
        self._here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
        self._before = termios.tcgetattr(there)
        self._there = there
        clean = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        command = [sys.executable, "-m", "dnstrail_cli", *arguments]
        self.process = subprocess.Popen(
            command, stdin=there, stdout=there, stderr=there, env={**clean, "TERM": "xterm"}, start_new_session=True
        )
        os.set_blocking(self._here, False)

    def press(self, keys: str) -> None:
        """Press keys; forget what was shown before."""
        self.read()
        self.shown = ""
        os.write(self._here, keys.encode())

    def read(self) -> str:
        """Return all that is shown since the last key."""
        try:
            while chunk := os.read(self._here, 65_536):
                self.shown += chunk.decode(errors="replace")
        except BlockingIOError:
            pass
        return self.shown

    @property
    def lines(self) -> list[str]:
        """The lines of all drawings without their styles; a drawing ends without a newline, and the next goes home."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.read().replace(HOME, "\n")).splitlines()

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._there)
        os.close(self._here)

    def end(self) -> bool:
        """Wait for the end of the command; return whether the terminal is as it was."""
        try:
            wait_until(lambda: self.read() is None or self.process.poll() is not None, "the end")
            return termios.tcgetattr(self._there) == self._before
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._here)
            os.close(self._there)


def send(writer: Writer, names: list[str], number: int = 1) -> None:
    """Resolve names for one client, each by a question with an id of its own."""
    for place, name in enumerate(names):
        writer.send(resolved(number + 100 * place, name))


def test_the_figures_are_live_and_keys_choose():
    """The view of names counts while it runs; `r` shows resolvers, `f` failures, `s` sorts, and `q` ends it."""
    with resolver() as (folder, _, writer):
        terminal = Terminal("top", "--run-dir", str(folder))
        wait_until(lambda: "q quit" in terminal.read(), "the screen")
        send(writer, ["shop.example"] * 3 + ["\\027[2J.a" + "b" * 60 + ".example"])
        wait_until(lambda: re.search(r"shop\.example +3 ", "\n".join(terminal.lines)), "three lookups")
        wait_until(lambda: any("bbb.example " in line for line in terminal.lines), "the end of a long name")
        assert "\x1b[2J.a" not in terminal.read()
        terminal.press("r")
        wait_until(lambda: re.search(r"192\.0\.2\.53 port 853 +4 ", "\n".join(terminal.lines)), "the resolvers")
        terminal.press("f")
        wait_until(lambda: re.search(r"outcome +name", "\n".join(terminal.lines)), "the failures")
        send(writer, ["gone.example"], number=1002)
        wait_until(lambda: re.search(r"nxdomain +gone\.example +1 ", "\n".join(terminal.lines)), "a failure")
        terminal.press("ns")
        wait_until(lambda: re.search(r"\x1b\[[0-9;]*7m */s", terminal.read()), "the column that sorts")
        assert max(cell_len(line) for line in terminal.lines) <= WIDTH
        terminal.press("q")
        assert terminal.end()
        assert terminal.process.returncode == 0


def test_a_signal_gives_the_terminal_back():
    """SIGTERM ends the screen, and the terminal echoes as before."""
    with resolver() as (folder, _, _):
        terminal = Terminal("top", "--run-dir", str(folder))
        wait_until(lambda: "q quit" in terminal.read(), "the screen")
        terminal.process.terminate()
        assert terminal.end()
        assert terminal.process.returncode == 0


def test_a_terminal_that_is_gone_ends_it():
    """When the terminal is closed without a signal, the command ends."""
    with resolver() as (folder, _, _):
        terminal = Terminal("top", "--run-dir", str(folder))
        wait_until(lambda: "q quit" in terminal.read(), "the screen")
        terminal.hang_up()
        terminal.process.wait(PATIENCE)


def test_a_program_receives_each_view_once():
    """With --json each view is one line after so many seconds; a table has all four without a terminal."""
    with resolver() as (folder, _, writer):
        command = [sys.executable, "-m", "dnstrail_cli", "top", "--run-dir", str(folder), "--seconds", "600"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([*command, "--json"], **pipes) as top, subprocess.Popen(command, **pipes) as table:
            for one in (top, table):
                assert "ready" in one.stderr.readline()
            follow = [sys.executable, "-m", "dnstrail_cli", "log", "--follow", "--json", "--run-dir", str(folder)]
            with subprocess.Popen(follow, **pipes) as log:
                assert "ready" in log.stderr.readline()
                send(writer, ["shop.example", "shop.example"])
                send(writer, ["gone.example"], number=1002)
                for _ in range(3):
                    assert log.stdout.readline()
                log.terminate()
                log.communicate(timeout=PATIENCE)
            for one in (top, table):
                one.terminate()
            shown, printed = (one.communicate(timeout=PATIENCE)[0] for one in (top, table))
    views = {view["view"]: view for view in map(json.loads, shown.splitlines())}
    assert [*views] == ["names", "processes", "resolvers", "failures"]
    found = [(row["name"], row["lookups"], row["failed"]) for row in views["names"]["rows"]]
    assert found == [("shop.example", 2, 0), ("gone.example", 1, 1)]
    assert [(row["process"], row["lookups"]) for row in views["processes"]["rows"]] == [
        ("192.0.2.101", 2),
        ("192.0.2.102", 1),
    ]
    assert [(row["outcome"], row["name"]) for row in views["failures"]["rows"]] == [("nxdomain", "gone.example")]
    assert [line.split()[:2] for line in printed.splitlines() if "lookups" in line] == [
        ["name", "lookups"],
        ["process", "container"],
        ["resolver", "lookups"],
        ["outcome", "name"],
    ]


def test_names_of_strangers_are_escaped_and_fit():
    """Names of processes and containers with control bytes, of any length and width, stay on their lines."""
    totals = Totals()
    for name in (HOSTILE, "\u3042" * 60, "[bold]" * 30):
        args = {"name": f"{name}.example", "outcome": "failed", "hop": "client"}
        process = Process(7, name, container_id="c", container_name=name * 3)
        totals.add(Event(DNS_TRANSACTION, Captured(1, b"", FLOW, process, args)))
    written = StringIO()
    console = Console(file=written, width=WIDTH, markup=False, highlight=False, emoji=False)
    for view in VIEWS:
        console.print(table_of(totals, view, 20, "lookups", WIDTH))
    lines = written.getvalue().splitlines()
    assert len(lines) == 4 + 3 + 3 + 1 + 3
    assert max(map(cell_len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)


def test_a_screen_states_how_many_lookups_it_does_not_show():
    """The lookups of names that left the table are counted below it."""
    totals = Totals()
    for number in range(1_030):
        args = {"name": f"x{number}.example", "outcome": "answered", "hop": "client"}
        totals.add(Event(DNS_TRANSACTION, Captured(1, b"", FLOW, Process(7, "curl"), args)))
    assert table_of(totals, VIEWS[0], 5).caption == "6 lookups of others"
    assert table_of(totals, VIEWS[1], 5).caption is None


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [(("--seconds", "0"), 2, "--seconds"), ((), 3, "no cache answered")],
    ids=["no time", "without a cache"],
)
def test_exit_codes(arguments, code, error):
    """A wrong use exits with 2, and a missing cache with 3."""
    with run_dir() as folder:
        done = dnstrail("top", *arguments, "--run-dir", folder)
    assert (done.returncode, error in done.stderr) == (code, True), done.stderr
