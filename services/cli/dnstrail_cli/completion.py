"""Shell completion of the names of events."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_event_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last name of a comma-separated list of events and signatures."""
    from dnstrail.events import NAMES  # noqa: PLC0415 - only completion needs these modules here
    from dnstrail.process.clock import SystemClock  # noqa: PLC0415
    from dnstrail.process.privileges import calling_user  # noqa: PLC0415
    from dnstrail_cli.signature_names import signature_names  # noqa: PLC0415

    before, comma, last = incomplete.rpartition(",")
    known = (*NAMES, *signature_names((), calling_user(), SystemClock()))
    return [CompletionItem(f"{before}{comma}{name}") for name in known if name.startswith(last)]
