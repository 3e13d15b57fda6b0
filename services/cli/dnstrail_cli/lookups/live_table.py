"""Tables that take each other's place on a terminal, for `--watch`, and the table of counters and their rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.tables import flat_counters

T = TypeVar("T")
_AROUND = 3  # lines of a table that are no rows
_EVERY = 1.0  # seconds between two looks


def every_second(look: Callable[[], T]) -> Iterator[T]:
    """Yield what a function returns, every second."""
    for _ in repeat(None):
        yield look()
        time.sleep(_EVERY)


def show_live(tables: Callable[[int], Iterable[Table]]) -> None:
    """Show each table in place of the one before it; without a terminal, one below the other.

    `tables` receives the number of rows that fit.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    with Live(console=console, auto_refresh=False) as live:
        for table in tables(console.height - _AROUND):
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                console.print(table)


def rate_tables(counters: Iterable[dict[str, Any]], monotonic: Callable[[], float], most: int) -> Iterator[Table]:
    """Yield a table of the rates between each set of counters and the one before."""
    earlier: dict[str, float] = {}
    then = monotonic()
    for data in counters:
        now, present = monotonic(), numbers(data)
        yield rate_table(present, earlier, now - then, most)
        earlier, then = present, now


def numbers(counters: dict[str, Any]) -> dict[str, float]:
    """Return the counters that are numbers and not 0, by name, in order."""
    return {name: value for name, value in sorted(flat_counters(counters)) if isinstance(value, int | float) and value}


def rate_table(present: Mapping[str, float], earlier: Mapping[str, float], seconds: float, most: int) -> Table:
    """Return a table of at most `most` counters; those that changed come first if there are more."""
    table = Table(box=None, pad_edge=False)
    for column in ("counter", "value", "per second"):
        table.add_column(column, overflow="fold", no_wrap=column != "counter")
    changed = {name: value - earlier.get(name, value) for name, value in present.items()}
    shown = (
        present if len(present) <= most else dict.fromkeys(sorted(present, key=lambda name: not changed[name])[:most])
    )
    for name in shown:
        rate = f"{changed[name] / seconds:,.1f}" if changed[name] and seconds > 0 else ""
        table.add_row(Text(escape_unprintable(name)), f"{present[name]:,}", rate)
    if len(present) > len(shown):
        table.caption = f"{len(present) - len(shown)} further counters: dnstrail stats"
    return table
