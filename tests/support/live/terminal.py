"""Commands whose stderr is a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress
from typing import Any


def on_terminal(command: list[str], **options: Any) -> tuple[int, bytes]:
    """Run a command to its end; return its exit code and what it showed on its terminal."""
    terminal, end = pty.openpty()
    with subprocess.Popen(command, stderr=end, **options) as run:
        os.close(end)
        shown = b""
        with suppress(OSError):  # the end of the terminal
            while chunk := os.read(terminal, 65_536):
                shown += chunk
    os.close(terminal)
    return run.returncode, shown
