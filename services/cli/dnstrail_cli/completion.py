"""Shell completion of the names of events."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_event_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last name of a comma-separated list of events and signatures."""
    from dnstrail_cli.selection import known_names  # noqa: PLC0415 - loads signatures, which only completion needs here

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in known_names() if name.startswith(last)]
