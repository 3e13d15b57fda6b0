"""`dnstrail top`: the lookups of a running service by name, process, resolver and failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, Event
from dnstrail.process.command import check_number, examples, run_dir_option
from dnstrail.process.terminal import json_line
from dnstrail_cli.log import follow_facts
from dnstrail_cli.lookups.options import json_option
from dnstrail_cli.top.views import VIEWS, Totals

if TYPE_CHECKING:
    from dnstrail.pipeline.view import EventView, Item
    from dnstrail.process.clock import Clock

SECONDS: Final = 10.0  # gathered for a program
_SHOWN: Final = 10  # rows of each table that is printed once
_POLL: Final = 0.05  # seconds between looks at the stop signal
_EXAMPLES = examples("dnstrail top", "dnstrail top --json | jq -c 'select(.view == \"failures\").rows[]'")


@click.command(epilog=_EXAMPLES)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    callback=check_number,
    help=f"Gather for so long, and print once (without a terminal, and for JSON: {SECONDS:.0f}).",
)
@json_option
@run_dir_option
def top(seconds: float | None, as_json: bool, run_dir: Path) -> None:
    """Show the names, processes and resolvers with the most lookups, live.

    Only lookups that end from now on count. In a terminal, keys choose the view (failures, too) and the column that
    sorts.
    """
    from dnstrail.process.clock import SystemClock
    from dnstrail.process.log import configure
    from dnstrail.process.signals import stop_on_signals
    from dnstrail_cli.top.screen import Screen, is_interactive

    configure("dnstrail", "warning")
    totals, clock, stop = Totals(), SystemClock(), stop_on_signals()
    with follow_facts(DNS_TRANSACTION, run_dir, clock, stop.is_set, _counting(totals)) as view:
        if seconds is None and not as_json and is_interactive():
            with Screen(totals) as screen:
                screen.run(view, clock, stop.is_set)
            return
        _gather(view, clock, stop.is_set, totals, SECONDS if seconds is None else seconds)
    if as_json:
        for one in VIEWS:
            click.echo(json_line(totals.rows(one)))
        return
    from dnstrail_cli.lookups.tables import show
    from dnstrail_cli.top.screen import table_of

    show(*(table_of(totals, one, _SHOWN) for one in VIEWS))


def _gather(view: EventView, clock: Clock, stopped: Callable[[], bool], totals: Totals, seconds: float) -> None:
    begin = clock.monotonic()
    while clock.monotonic() < begin + seconds and not stopped():
        view.wait(_POLL)
        view.take(clock)
    totals.tick(max(clock.monotonic() - begin, _POLL))


def _counting(totals: Totals) -> Callable[[Item], None]:
    """Return a function that counts transactions; one that no cache of ours sends is left out."""

    def count(item: Item) -> None:
        try:
            if isinstance(item, Event):
                totals.add(item)
        except BadMessage:
            return

    return count
