"""The report on this host as a table for people, or as JSON for programs."""

from __future__ import annotations

import json

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dnstrail.process.terminal import escape_unprintable
from dnstrail_probe.check import Report

_WIDTH = 120  # where it is no terminal, which has its own


def show_report(report: Report, *, as_json: bool) -> None:
    """Print it to stdout."""
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report)))
        return
    table = Table("what", "", "for", "why not", "remedy", box=None, pad_edge=False)
    for finding in report.checks:
        words = (finding.name, "yes" if finding.able else "no", finding.purpose, finding.reason, finding.remedy)
        table.add_row(*(Text(escape_unprintable(word)) for word in words))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    console.print(f"\nauto would capture by {report.auto}" + ("" if report.live else ": nothing live can be captured"))
