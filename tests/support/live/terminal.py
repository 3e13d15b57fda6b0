"""Commands with a terminal: as their stderr, or as another stream."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from contextlib import suppress
from typing import Any


def on_terminal(command: list[str], *, stream: str = "stderr", width: int = 0, **options: Any) -> tuple[int, bytes]:
    """Run a command to its end; return its exit code and what it showed on its terminal, which may have a width."""
    terminal, end = pty.openpty()
    if width:
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with subprocess.Popen(command, **{stream: end}, **options) as run:
        os.close(end)
        shown = b""
        with suppress(OSError):  # the end of the terminal
            while chunk := os.read(terminal, 65_536):
                shown += chunk
    os.close(terminal)
    return run.returncode, shown
