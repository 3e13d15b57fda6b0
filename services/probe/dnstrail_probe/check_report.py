"""Prints the report of `probe --check`: a table for people, or JSON for programs."""

from __future__ import annotations

import json

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable
from dnstrail_probe.check import CheckReport

_WIDTH = 120  # columns where the output is no terminal


def show_report(report: CheckReport, *, as_json: bool) -> None:
    """Print a report to stdout."""
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report)))
        return
    table = Table("check", "", "needed for", "reason", "remedy", box=None, pad_edge=False)
    for result in report.checks:
        cells = (result.name, "yes" if result.able else "no", result.purpose, result.reason, result.remedy)
        table.add_row(*(Text(escape_unprintable(cell)) for cell in cells))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    console.print(f"\nauto captures by {report.auto}" + ("" if report.live else ": no live source can be opened"))
