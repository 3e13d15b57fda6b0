"""The table of events for people. Each line has the local time, the process, and the event in words."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from dnstrail.errors import BadMessage
from dnstrail.events import Event
from dnstrail.pipeline.view import Item
from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.events.sightings import MALFORMED
from dnstrail_cli.events.words import Words, client_of, client_of_finding, cut, event_words, finding_words, has_address

_TIME = len("14:00:00.123")
_NARROWEST, _WIDEST = 12, 24  # cells for a process: a name in the kernel has 15, an id up to 7
_GAP = "  "
_NANOSECONDS = 1_000_000_000
cell_len("\u3042")  # rich imports the widths of such characters late, when a user may not be able to read the module


class TableRow(NamedTuple):
    """A line of the table."""

    time: datetime
    milliseconds: int
    name: str
    process: int
    words: Words


class EventTable:
    """Prints events and findings as lines that fit the width of the terminal; elsewhere lines have their full length.

    No address is cut: an event that has no room for its first address beside the process has a line of its own below.

    A line with the date comes before the first event of each day, except today, and one with the zone before the first
    event after a change of the clocks.
    """

    def __init__(self, console: Console, today: datetime) -> None:
        self._console = console
        self._day = f"{today:%Y-%m-%d}"
        self._offset: timedelta | None = None  # of the zone whose name was printed

    def print(self, item: Item) -> None:
        """Print an event, or a finding in tracee's shape.

        Raises:
            BadMessage: no worker of ours sends such an item.
        """
        try:
            row = _row_of(item)
        except MALFORMED as error:
            raise BadMessage(repr(error)) from error
        self.print_row(row)

    def print_row(self, row: TableRow) -> None:
        """Print a line."""
        self._head(row.time)
        column, room = self._layout()
        who = _process_text(row.name, row.process, column)
        words, beyond = row.words, max(cell_len(who) - column, 0)
        begin = (f"{row.time:%H:%M:%S}.{row.milliseconds:03d}", "dim")
        shown = words.fitted(None if room is None else max(room - beyond, 0))
        if room is None or cell_len(shown) <= room - beyond:
            self._line(begin, (who + " " * (column - cell_len(who)), "cyan"), (shown, words.style))
            return
        self._line(begin, (who, "cyan"))
        self._line(("", ""), (words.fitted(self._console.width - len(_GAP)), words.style))

    def _head(self, time: datetime) -> None:
        """Print the header before the first line, and the date when it or the offset of the zone changes."""
        day, offset = f"{time:%Y-%m-%d}", time.utcoffset()
        if self._offset is None:
            self._offset = offset
            column, _ = self._layout()
            zone = cut(f"TIME ({time:%Z})", _TIME)
            self._line((f"{zone:<{_TIME}}", "bold"), (f"{'PROCESS':<{column}}", "bold"), ("EVENT", "bold"))
        if self._offset != offset:
            self._line((f"{day} ({time:%Z})", "dim"))
        elif self._day != day:
            self._line((day, "dim"))
        self._day, self._offset = day, offset

    def _layout(self) -> tuple[int, int | None]:
        """Return the cells for a process, and the cells for the event (None: as many as it takes)."""
        if not self._console.is_terminal:
            return _WIDEST, None
        width = self._console.width
        column = min(max(width // 5, _NARROWEST), _WIDEST)
        return column, max(width - _TIME - column - 2 * len(_GAP), 1)

    def _line(self, *cells: tuple[str, str]) -> None:
        if not self._console.is_terminal:
            self._console.file.write(_GAP.join(value for value, _ in cells) + "\n")  # as rich would, in less time
            self._console.file.flush()
            return
        text = Text(_GAP).join(Text(value, style) for value, style in cells)
        self._console.print(text, soft_wrap=True)


def _row_of(item: Item) -> TableRow:
    if isinstance(item, Event):
        name, process, timestamp, words = item.process_name, item.process_id, item.timestamp, event_words(item)
        name = name or client_of(item)
    else:
        name, process, timestamp, words = item["processName"], item["processId"], item["timestamp"], finding_words(item)
        name = str(name) or client_of_finding(item)
    return table_row(timestamp, name, process, words)


def table_row(timestamp: int, name: str, process: int, words: Words) -> TableRow:
    """Return the line of an event at a time (ns since the epoch).

    Raises:
        OverflowError, ValueError: no calendar has the time.
    """
    time = datetime.fromtimestamp(timestamp // _NANOSECONDS).astimezone()
    return TableRow(time, timestamp % _NANOSECONDS // 1_000_000, name, process, words)


def _process_text(name: str, process: int, room: int) -> str:
    """Return `name(pid)` in at most `room` cells: a long name is cut, the id never. Without an id: the name alone.

    The address of a client is never cut.
    """
    if not process:
        return name if has_address(name) else cut(escape_unprintable(name or "-"), room)
    number = f"({process})"
    return cut(escape_unprintable(name or "?"), room - len(number)) + number
