"""The screen of `dnstrail top`: one view at a time, sorted by a column, until a key ends it."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dnstrail.pipeline.view import EventView
from dnstrail.process.clock import Clock
from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.top.frequent import Figures
from dnstrail_cli.top.views import COLUMNS, VIEWS, TopView, Totals

_EVERY: Final = 2.0  # seconds between two ticks
_POLL: Final = 0.05  # seconds between two looks at the keys
_AROUND: Final = 4  # lines of the screen that are no rows
_WIDTHS: Final = {"lookups": 8, "rate": 7, "failed": 7, "mean": 7, "slowest": 7}
_CELLS: Final = sum(_WIDTHS.values()) + len(_WIDTHS)  # of the figures, with a gap before each
_NARROWEST: Final = 12  # cells of a name
_SHORT: Final = 15  # cells of the other part of a key: a name in the kernel
_KEYS: Final = {view.title[0]: view for view in VIEWS}
_QUIT: Final = "q"
_HELP: Final = "n names  p processes  r resolvers  f failures   s sort   q quit"
_MILLISECOND: Final = 1_000_000  # ns
_MORE: Final = "\u2026"


class Screen:
    """The figures on a terminal, and the keys that it reads: each at once, without an echo.

    At its end the terminal is as it was.
    """

    def __init__(self, totals: Totals, console: Console | None = None) -> None:
        self._totals = totals
        self._console = console or Console(markup=False, highlight=False, emoji=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._view = VIEWS[0]
        self._sort = next(iter(COLUMNS))
        self._ended = False
        self._mode: list[Any] = []

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._mode = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._live.stop()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._mode)

    def run(self, view: EventView, clock: Clock, stopped: Callable[[], bool]) -> None:
        """Show the figures until a key or a signal ends it."""
        ticked = clock.monotonic()
        self._draw(view.lost)
        while not stopped() and not self._ended:
            view.wait(_POLL)
            view.take(clock)
            now, pressed = clock.monotonic(), self._pressed()
            for key in pressed:
                self._on_key(key)
            if now >= ticked + _EVERY:
                self._totals.tick(now - ticked)
                ticked = now
            elif not pressed:
                continue
            self._draw(view.lost)

    def _pressed(self) -> str:
        """Return the keys that wait to be read; the one that quits if the terminal is gone."""
        if not select.select([sys.stdin], [], [], 0)[0]:
            return ""
        try:
            return os.read(sys.stdin.fileno(), 64).decode("ascii", "replace") or _QUIT
        except OSError:
            return _QUIT

    def _on_key(self, key: str) -> None:
        columns = [*COLUMNS]
        if key == "s":
            self._sort = columns[(columns.index(self._sort) + 1) % len(columns)]
        self._view = _KEYS.get(key, self._view)
        self._ended = self._ended or key == _QUIT

    def _draw(self, lost: int) -> None:
        rows = max(self._console.height - _AROUND, 1)
        table = table_of(self._totals, self._view, rows, self._sort, self._console.width)
        losses = f", {lost:,} events lost" if lost else ""
        counted = f"{self._totals.lookups:,} lookups{losses}"
        lines = Text(f"{counted}\n{_HELP}", style="dim", no_wrap=True, overflow="crop")
        self._live.update(Group(table, lines), refresh=True)


def is_interactive() -> bool:
    """Return whether keys can be read, and figures shown in place."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def table_of(totals: Totals, view: TopView, most: int, sort: str = "lookups", width: int | None = None) -> Table:
    """Return at most so many rows of a view; on a screen of a width, all but the ends of names are cut to fit."""
    frequent = totals.views[view.title]
    left = f"{frequent.left:,} lookups of others" if frequent.left else None
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=left, caption_justify="left")
    *short, _ = view.parts
    room = None if width is None else max(width - _CELLS - len(short) * (_SHORT + 1), _NARROWEST)
    for part in view.parts:
        cells = None if room is None else _SHORT if part in short else room
        table.add_column(part, no_wrap=room is not None, overflow="ellipsis" if room else "fold", width=cells)
    for name, title in COLUMNS.items():
        style = "reverse" if name == sort else ""
        table.add_column(title, justify="right", no_wrap=True, header_style=style, min_width=_WIDTHS[name])
    for figures in frequent.by(sort)[:most]:
        *others, last = map(escape_unprintable, figures.key)
        table.add_row(*map(Text, (*others, _end_of(last, room), *_numbers(figures))))
    return table


def _end_of(text: str, room: int | None) -> str:
    """Return the end of a name: there is the domain, and a stranger chooses the begin."""
    return text if room is None or len(text) <= room else _MORE + text[len(text) - room + 1 :]


def _numbers(figures: Figures) -> tuple[str, ...]:
    times = (f"{value / _MILLISECOND:.1f}" if figures.timed else "-" for value in (figures.mean, figures.slowest))
    return (str(figures.lookups), f"{figures.rate:.1f}", str(figures.failed), *times)
