"""A person at a terminal: reads what a command shows there, and types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from live.processes import PATIENCE


class Person:
    """Sits at the terminal that controls the session of a command."""

    def __init__(self, terminal: int, command: subprocess.Popen[bytes]) -> None:
        self.terminal = terminal
        self.command = command
        self.shown = ""
        self._read = 0

    def sees(self, text: str) -> str:
        """Wait until a text is shown behind what was seen before; return what was shown up to it."""
        end = time.monotonic() + PATIENCE
        start = self._read
        while (at := self.shown.find(text, start)) < 0:
            start = max(start, len(self.shown) - len(text))
            assert self._more(end), f"no {text!r} in {self.shown[self._read :]!r}, all: {self.shown!r}"
        seen = self.shown[self._read : at + len(text)]
        self._read = at + len(text)
        return seen

    def types(self, keys: str) -> None:
        """Type keys."""
        os.write(self.terminal, keys.encode())

    def answers(self, name: str, keys: str) -> str:
        """Wait for the question about a name, and answer it; return what was shown before."""
        seen = self.sees(f"ask {name} ")
        seen += self.sees("[N]o? ")
        self.types(keys)
        return seen

    def leaves(self) -> None:
        """Close the terminal."""
        os.close(self.terminal)
        self.terminal = -1

    def waits(self) -> int:
        """Wait for the end of the command; return its exit code."""
        end = time.monotonic() + PATIENCE
        while self.terminal >= 0 and self._more(end):
            pass
        return self.command.wait(PATIENCE)

    def _more(self, end: float) -> bool:
        if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
            return False
        with suppress(OSError):  # the end of the terminal
            chunk = os.read(self.terminal, 65_536)
            self.shown += chunk.decode(errors="replace")
            return bool(chunk)
        return False


@contextmanager
def person_at(command: list[str], folder: Path, **env: str) -> Iterator[Person]:
    """Start a command on a terminal of its own."""
    terminal, end = pty.openpty()

    with subprocess.Popen(
        ["setsid", "--ctty", "env", "--default-signal=INT,QUIT", *command],  # CI runs tests in the background
        cwd=folder,
        env={**os.environ, **env},
        stdin=end,
        stdout=end,
        stderr=end,
    ) as run:
        os.close(end)
        person = Person(terminal, run)
        try:
            yield person
        finally:
            run.kill()
            if person.terminal >= 0:
                person.leaves()
