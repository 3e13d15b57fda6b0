"""Counters as a table for people, and how tables are shown; text from strangers is escaped."""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable


def show(*renderables: RenderableType) -> None:
    """Print to stdout, without an interpretation of the text as markup."""
    console = Console(markup=False, highlight=False, emoji=False)
    for renderable in renderables:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))


def counters_table(title: str, counters: dict[str, Any]) -> RenderableType:
    """Return counters as a table; the name of a nested counter holds the names of the maps around it.

    A line that is longer than the terminal is folded, never cut.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("counter", "value"):
        table.add_column(column, overflow="fold")
    for name, value in sorted(flat_counters(counters)):
        table.add_row(Text(escape_unprintable(name)), Text(escape_unprintable(str(value))))
    return table


def flat_counters(counters: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return all counters, each with the names of the maps around it in its name."""
    flat: list[tuple[str, Any]] = []
    for name, value in counters.items():
        flat += flat_counters(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return flat
