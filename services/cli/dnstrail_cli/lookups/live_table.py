"""The live table of `dnstrail stats --watch`: counters and their rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.tables import flat_counters

_AROUND = 3  # lines of the table that are no counters


def show_live(counters: Iterable[dict[str, Any]], monotonic: Callable[[], float]) -> None:
    """Show each set of counters in place of the one before it; without a terminal, one below the other."""
    console = Console(markup=False, highlight=False, emoji=False)
    earlier: dict[str, float] = {}
    then = monotonic()
    with Live(console=console, auto_refresh=False) as live:
        for data in counters:
            now, present = monotonic(), numbers(data)
            table = rate_table(present, earlier, now - then, console.height - _AROUND)
            earlier, then = present, now
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                console.print(table)


def numbers(counters: dict[str, Any]) -> dict[str, float]:
    """Return the counters that are numbers and not 0, by name, in order."""
    return {name: value for name, value in sorted(flat_counters(counters)) if isinstance(value, int | float) and value}


def rate_table(present: Mapping[str, float], earlier: Mapping[str, float], seconds: float, most: int) -> Table:
    """Return a table of at most `most` counters; those that changed come first if there are more."""
    table = Table("counter", "value", "per second", box=None, pad_edge=False)
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
