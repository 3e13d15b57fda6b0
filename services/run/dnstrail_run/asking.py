"""`--ask`: a person decides at the terminal about each question that the list does not allow.

All processes of the command are stopped meanwhile: they can neither change what the terminal shows nor read its keys.
Keys that they typed themselves (TIOCSTI) are discarded.
"""

from __future__ import annotations

import os
import select
import termios
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.terminal import escape_unprintable
from dnstrail_run.advice import NearestEntries, asked_line
from dnstrail_run.allow_list import AllowList
from dnstrail_run.enforce.refusals import Ancestor, First, refusals
from dnstrail_run.notices import quoted, with_quotes
from dnstrail_run.verdict import attempt_of

ONCE, RUN, LIST, NO = VERDICTS = ("once", "run", "list", "no")
_TERMINAL = "/dev/tty"
# Ends what the command may have begun: an escape sequence, a string, a mode, a colour, another set of characters.
_CLEAN = "\x18\x1b\\\x1b[!p\x1b[0m\x1b(B\x0f\n"
_CHOICES = "dnstrail: {}: allow it [o]nce, for this [r]un, write it to the [l]ist, or [N]o? "
_SETTLING = 0.5  #: seconds after a question of `--ask` appears -> keys that were typed until then are discarded
_PATIENCE = 5.0  #: seconds that a terminal takes for a question of `--ask` -> the name is refused
_LONGEST = 4_096  # bytes of a line of a terminal
_NO_SIGNAL = b"\0"  # _POSIX_VDISABLE
SHOWN = {
    ONCE: "allowed once: {}",
    RUN: "allowed for this run: {}",
    LIST: "allowed, and in the list: {}",
    NO: "refused: {}",
}


class Approval(msgspec.Struct, frozen=True):
    """What a person allowed: the line of a list, and one of VERDICTS."""

    line: str
    verdict: str


class Terminal:
    """The terminal of this process. It need not be that of its streams.

    Raises:
        OSError: this process has none.
    """

    def __init__(self) -> None:
        self._file = os.open(_TERMINAL, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ask(self, text: str, choices: str, interrupts: Sequence[int], groups: Collection[int]) -> str:
        """Show a text, and then the `choices`; return the line that a person typed behind them.

        The line is "" if one of the `interrupts` became readable. `groups` are the process groups of the command.

        Raises:
            OSError: the terminal cannot be used, or belongs to other process groups.
        """
        try:
            with self._taken(groups):
                self._write(_CLEAN + text)
                if select.select(interrupts, [], [], _SETTLING)[0]:
                    return ""
                termios.tcflush(self._file, termios.TCIFLUSH)
                self._write(choices)
                ready = select.select([self._file, *interrupts], [], [])[0]
                typed = os.read(self._file, _LONGEST) if ready == [self._file] else b""
                return typed.decode(errors="replace").strip()
        except termios.error as error:
            raise OSError(*error.args) from error

    def show(self, text: str) -> None:
        """Show a line, whatever modes the terminal has."""
        self._write(text + "\r\n")

    @contextmanager
    def _taken(self, groups: Collection[int]) -> Iterator[None]:
        """Bring this process to the foreground, with usual modes and keys."""
        foreground, own = os.tcgetpgrp(self._file), os.getpgrp()
        if foreground != own and foreground not in groups:
            raise OSError("another command uses the terminal")
        before = termios.tcgetattr(self._file)
        try:
            os.tcsetpgrp(self._file, own)
            termios.tcflow(self._file, termios.TCOON)
            termios.tcsetattr(self._file, termios.TCSANOW, _usual(before))
            yield
        finally:
            termios.tcflush(self._file, termios.TCIFLUSH)
            termios.tcsetattr(self._file, termios.TCSANOW, before)
            os.tcsetpgrp(self._file, foreground)

    def _write(self, text: str) -> None:
        rest = text.encode("ascii", errors="backslashreplace")
        while rest:
            if not select.select([], [self._file], [], _PATIENCE)[1]:
                raise OSError("the terminal takes no text")
            rest = rest[os.write(self._file, rest) :]


def _usual(modes: Any) -> Any:
    """Return the modes of a terminal that reads lines, and sends its signals; it keeps speed and bits."""
    keys = [_NO_SIGNAL] * termios.NCCS
    keys[termios.VINTR], keys[termios.VQUIT], keys[termios.VEOF] = b"\x03", b"\x1c", b"\x04"
    keys[termios.VERASE], keys[termios.VKILL] = b"\x7f", b"\x15"
    local = termios.ICANON | termios.ISIG | termios.ECHO | termios.ECHOE | termios.ECHOK
    return [termios.ICRNL, termios.OPOST | termios.ONLCR, modes[2], local, *modes[4:6], keys]


class Questioner:
    """Asks a person, and writes to the list. `add` adds a line to the list, and returns why it cannot, or "".

    Raises:
        SettingsError: this process has no terminal.
    """

    def __init__(self, allowed: AllowList, add: Callable[[str], str]) -> None:
        self._allowed = allowed
        self._nearest = NearestEntries(allowed)
        self._add = add
        try:
            self._terminal = Terminal()
        except OSError as error:
            raise SettingsError(f"--ask needs a terminal: {_TERMINAL}: {error.strerror}") from error

    def decide(self, first: First, interrupts: Sequence[int], groups: Collection[int]) -> Approval:
        """Return what a person decides about a question; NO if nobody can be asked, or no list can contain it."""
        (refused,) = refusals([first.attempt], [])
        line = asked_line(refused, self._allowed)
        if not line:
            return Approval("", NO)
        processes = [Ancestor(first.attempt.pid, first.attempt.name), *first.parents]
        process = [f"{quoted(one.name)}({one.pid})" for one in processes]
        nearest = self._nearest.of(refused)
        shown = [
            f"dnstrail: {' of '.join(process)} wants to {attempt_of(with_quotes(refused))}",
            *([f"dnstrail: the list has {nearest}"] if nearest else []),
        ]
        text = "".join(f"{escape_unprintable(each)}\n" for each in shown)
        try:
            typed = self._terminal.ask(text, _CHOICES.format(line), interrupts, groups).lower()
        except OSError:
            return Approval(line, NO)
        verdict = next((each for each in VERDICTS if typed and typed in (each, each[0])), NO)
        fault = self._extend(line) if verdict == LIST else ""
        if fault:
            verdict = RUN
        with suppress(OSError):
            self._terminal.show(f"dnstrail: {SHOWN[verdict].format(line)}{fault}")
        return Approval(line, verdict)

    def _extend(self, line: str) -> str:
        """Write a line to the list; return why it cannot be written."""
        today = datetime.now(UTC).date().isoformat()
        fault = self._add(f"{line}  # allowed at a question of dnstrail on {today}")
        return fault and f" (not in the list: {escape_unprintable(fault)})"
