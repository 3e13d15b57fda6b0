"""Shell completion of the values of options: names of events, and what `--capture` accepts."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_event_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last name of a comma-separated list of events and signatures."""
    from dnstrail_cli.selection import known_names  # noqa: PLC0415 - loads signatures, which only completion needs here

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{before}{comma}{name}") for name in known_names() if name.startswith(last)]


def complete_capture(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a kind of source, or the path of a capture file."""
    from dnstrail_probe.registry import AUTO, SOURCES  # noqa: PLC0415 - imports eBPF, which only completion needs here

    kinds = [CompletionItem(kind) for kind in (AUTO, *SOURCES, "-") if kind.startswith(incomplete)]
    return [CompletionItem(incomplete, type="file"), *kinds]
