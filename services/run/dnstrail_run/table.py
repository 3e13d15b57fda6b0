"""A report as a table on a terminal."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable
from dnstrail_run.report import RunReport
from dnstrail_run.sections import Section, sections, summary

_MOST = 12  # rows of one section; the file has all


def table_of(report: RunReport, *, terminal: bool | None) -> str:
    """Return a report as text, with colours on a `terminal`; None: as the environment demands."""
    table = StringIO()
    show_report(report, Console(file=table, force_terminal=terminal, markup=False, highlight=False, emoji=False))
    return table.getvalue()


def show_report(report: RunReport, console: Console) -> None:
    """Print a report; each section has at most _MOST rows."""
    console.print(Text(f"dnstrail: {summary(report)}", style="bold"))
    for section in sections(report):
        console.print(_table(section))
        if len(section.rows) > _MOST:
            console.print(Text(f"  and {len(section.rows) - _MOST} more: --report FILE has all", style="dim"))


def _table(section: Section) -> Table:
    title = Text(section.title, style="bold")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=len(section.heads) > 1)
    for head in section.heads:
        table.add_column(head, overflow="fold")
    for row in section.rows[:_MOST]:
        table.add_row(*(Text(escape_unprintable(cell)) for cell in row))
    return table
