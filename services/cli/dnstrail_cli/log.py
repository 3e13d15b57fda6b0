"""`dnstrail log`: the DNS transactions of a running service, each when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnstrail.errors import BadMessage, Unavailable
from dnstrail.events import DNS_TRANSACTION, OUTCOMES
from dnstrail.process.command import examples, run_dir_option
from dnstrail_cli.lookups.options import json_option

if TYPE_CHECKING:
    from dnstrail.events import Event
    from dnstrail.pipeline.view import Emit, EventView, Item
    from dnstrail.process.clock import Clock

_FORWARDER = "forwarder"  # the hop of questions that were asked for others: theirs are shown
_POLL = 0.05  # seconds between looks at the stop signal
_PATIENCE = 10.0  # seconds for the first turn of the facts
_EXAMPLES = examples(
    "dnstrail log --follow",
    "dnstrail log --follow --name '*.example.com' --outcome unanswered --outcome failed",
    "dnstrail log --follow --container web --json | jq .name",
)
Filter = Callable[["Event"], bool]


@click.command(epilog=_EXAMPLES)
@click.option("--follow", is_flag=True, help="Print each transaction when it ends, until Ctrl-C.")
@click.option("--name", metavar="GLOB", help="Only questions for such a name, for example '*.example.com'.")
@click.option("--process", metavar="PID|GLOB", help="Only questions of this process, by id or name.")
@click.option(
    "--container", metavar="ID|GLOB", help="Only questions of this container, by the begin of its id, or name."
)
@click.option(
    "--outcome", multiple=True, type=click.Choice(OUTCOMES), help="Only questions that ended so (repeatable)."
)
@json_option
@run_dir_option
def log(
    follow: bool,
    name: str | None,
    process: str | None,
    container: str | None,
    outcome: tuple[str, ...],
    as_json: bool,
    run_dir: Path,
) -> None:
    """Print the DNS transactions of a running service: each question of a process or client, with its end.

    A question that nobody answers ends after 30 seconds.
    """
    from dnstrail.process.clock import SystemClock
    from dnstrail.process.log import configure
    from dnstrail.process.signals import stop_on_signals

    if not follow:
        raise click.UsageError("earlier transactions are not kept: add --follow for those that end from now on")
    configure("dnstrail", "warning")
    clock, stop = SystemClock(), stop_on_signals()
    emit = _printing(_printer(clock, as_json=as_json), _filter_of(name, process, container, outcome))
    with follow_transactions(run_dir, clock, stop.is_set, emit) as view:
        while not stop.is_set():
            view.wait(_POLL)
            view.take(clock)


@contextmanager
def follow_transactions(run_dir: Path, clock: Clock, stopped: Callable[[], bool], emit: Emit) -> Iterator[EventView]:
    """Yield a view that passes on the transactions of a running service, once its cache publishes them.

    Raises:
        Unavailable: no cache answers, or it publishes no facts.
    """
    from dnstrail.bus import ZmqBus
    from dnstrail.bus.ipc import lookups_address
    from dnstrail.client import LookupClient
    from dnstrail.pipeline.view import EventView

    with closing(LookupClient(lookups_address(run_dir))) as client:
        client.request("health")  # an absent or untrusted cache is refused
    bus = ZmqBus()
    with (
        closing(bus),
        closing(EventView(run_dir, (DNS_TRANSACTION,), (), bus, emit, cache=True, take_findings=False)) as view,
    ):
        _await_facts(view, clock, run_dir, stopped)
        yield view


def _await_facts(view: EventView, clock: Clock, run_dir: Path, stopped: Callable[[], bool]) -> None:
    """Wait until the cache publishes facts.

    Raises:
        Unavailable: it does not.
    """
    from dnstrail.bus.ipc import facts_address, lookups_address

    deadline = clock.monotonic() + _PATIENCE
    while not view.hears_facts and not stopped():
        if clock.monotonic() > deadline:
            address = facts_address(lookups_address(run_dir))
            raise Unavailable(address, _PATIENCE, "absent", "the cache publishes no facts here: see its --facts")
        view.wait(_POLL)
        view.take(clock)
    click.echo("dnstrail: ready", err=True)


def _printer(clock: Clock, *, as_json: bool) -> Emit:
    if as_json:
        from dnstrail_cli.events.output import print_json

        return partial(print_json, shape=row_of)
    from rich.console import Console

    from dnstrail_cli.events.table import EventTable

    console = Console(markup=False, highlight=False, emoji=False)
    return EventTable(console, datetime.fromtimestamp(clock.wall()).astimezone()).print


def _printing(show: Emit, accepts: Filter) -> Emit:
    """Return a function that prints the events that a filter accepts; one that no cache of ours sends is left out."""
    from dnstrail.events import Event

    def emit(item: Item) -> None:
        try:
            if isinstance(item, Event) and item.arg("hop") != _FORWARDER and accepts(item):
                show(item)
        except BadMessage:
            return

    return emit


def row_of(event: Event) -> dict[str, Any]:
    """Return a transaction as a map: its end in ns of wall time, its asker, and its arguments by name."""
    from dnstrail.tracee.event_shape import event_args

    process = event.process
    return {
        "timestamp": event.timestamp,
        "host": event.host_name,
        "process_id": process.pid,
        "process_name": process.name,
        "executable": process.path,
        "container_id": process.container_id,
        "container_name": process.container_name,
        **{one["name"]: one["value"] for one in event_args(event, parse_arguments=True)},
    }


def _filter_of(name: str | None, process: str | None, container: str | None, outcomes: tuple[str, ...]) -> Filter:
    """Return whether an event fits what is given."""
    pattern = None if name is None else name.lower().removesuffix(".")

    def accepts(event: Event) -> bool:
        asker = event.process
        return (
            (pattern is None or fnmatchcase(str(event.arg("name")), pattern))
            and (process is None or process == str(asker.pid) or fnmatchcase(asker.name, process))
            and (container is None or _is_container(container, asker.container_id, asker.container_name))
            and (not outcomes or event.arg("outcome") in outcomes)
        )

    return accepts


def _is_container(wanted: str, container: str, name: str) -> bool:
    return bool(container) and (container.startswith(wanted) or fnmatchcase(name, wanted))
