"""A progress bar on stderr for a file that takes longer than a second to read."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from dnstrail.process.clock import Clock
from dnstrail.process.terminal import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

PATIENCE = 1.0  # seconds of reading before a bar appears
_EVERY = 0.1  # seconds between two updates


class ReadProgress:
    """A bar for one file, on a terminal alone. It disappears when it is closed.

    `position` returns how many bytes were read, or None if that is unknown; `size` returns their number, if it is not
    that of the file. The reader calls `tick` after each step.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        position: Callable[[], int | None],
        console: Console | None = None,
        *,
        size: Callable[[], int | None] | None = None,
    ) -> None:
        self._path = path
        self._size = size or (lambda: _size(path))
        self._clock = clock
        self._position = position
        self._console = console
        self._active = console is not None or sys.stderr.isatty()
        self._due = clock.monotonic() + PATIENCE
        self._bar: Bar | None = None

    def tick(self) -> None:
        """Show or update the bar when it is due."""
        if not self._active or self._clock.monotonic() < self._due:
            return
        self._due = self._clock.monotonic() + _EVERY
        if self._bar is None:
            self._bar = _start_bar(self._path, self._size(), self._console)
        position = self._position()
        if position is not None:
            self._bar.update(self._bar.task_ids[0], completed=position)
        self._bar.refresh()

    def pause_on_terminal(self) -> None:
        """Show no bar if stdout is a terminal, too: the lines there show the progress."""
        self._active = self._active and not sys.stdout.isatty()

    def close(self) -> None:
        """Remove the bar."""
        self._active = False
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def load_bar() -> None:
    """Import all that a bar needs, for a process that becomes a user who may not be able to read the modules."""
    if sys.stderr.isatty():
        from rich.console import Console

        # rich imports parts of itself only now, and the widths of such a character.
        bar = _start_bar("\u3042", None, Console(file=StringIO(), force_terminal=True))
        bar.refresh()
        bar.stop()


def position_in(path: str, process: int | str = "self") -> int | None:
    """Return how far a process has read a file, from its descriptors in /proc (proc_pid_fdinfo(5)), or None."""
    folder = Path(f"/proc/{process}")
    with suppress(OSError, ValueError):
        wanted = os.stat(path)  # noqa: PTH116 - what samestat compares
        for descriptor in (folder / "fd").iterdir():
            with suppress(OSError):  # closed in the meantime
                if os.path.samestat(descriptor.stat(), wanted):
                    return _offset((folder / "fdinfo" / descriptor.name).read_text(encoding="ascii"))
    return None


def _offset(fdinfo: str) -> int:
    return next(int(line.split()[1]) for line in fdinfo.splitlines() if line.startswith("pos:"))


def _start_bar(path: str, size: int | None, console: Console | None) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("reading {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console or Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task(escape_unprintable(Path(path).name), total=size)
    bar.start()
    return bar


def _size(path: str) -> int | None:
    """Return the size of a file; None if it has none, or if this user may not see it."""
    with suppress(OSError):
        found = os.stat(path)  # noqa: PTH116 - as above
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    return None
