"""Draw the output of the demo as a picture: `python deploy/make_demo_picture.py FILE.svg`.

The demo runs on a terminal of its own, so the picture has the colours that a user sees.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 96, 60
_COMMAND = (sys.executable, "-m", "dnstrail_cli.demo")
_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # GitHub loads no fonts from elsewhere


def picture(output: str) -> str:
    """Return the picture of a terminal that shows the output."""
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, highlight=False)
    console.print("[bold]$ make demo[/bold]")
    console.print(Text.from_ansi(output.strip("\r\n")))
    svg = console.export_svg(title="dnstrail", unique_id="demo")
    lines = _FONT.sub("", svg).replace("Fira Code, monospace", "monospace").splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def demo_output() -> str:
    """Return the output of the demo on a terminal, with its colours.

    Raises:
        CalledProcessError: The demo failed.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "TZ": "UTC"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(_COMMAND, stdout=its, env=environment) as process:  # noqa: S603 - our own module
        os.close(its)
        output = _read_all(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, _COMMAND)
    return output


def _read_all(descriptor: int) -> str:
    """Read a terminal until its last writer has closed it, which Linux reports as EIO."""
    chunks: list[bytes] = []
    with open(descriptor, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(1 << 16):
                chunks.append(chunk)
        except OSError:
            pass
    return b"".join(chunks).decode().replace("\r\n", "\n")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(demo_output()), encoding="utf-8")
