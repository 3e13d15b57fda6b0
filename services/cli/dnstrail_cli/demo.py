"""`make demo`: the bundled capture through the real workers; then a lookup, a trail and the finding."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.pipeline.pipeline import Plan, running
from dnstrail.pipeline.view import Item
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import HELP, run_command
from dnstrail.process.log import configure
from dnstrail.process.privileges import calling_user
from dnstrail.process.signals import stop_on_signals
from dnstrail_cli.events.table import EventTable
from dnstrail_cli.lookups.found_text import found_text
from dnstrail_cli.lookups.tables import show, trail_trees
from dnstrail_signatures.builtin.watched_name import WatchedName

_ADDRESS = "192.0.2.10"


@click.command(context_settings=HELP)
def command() -> None:
    """Play the bundled capture through probe, cache and signatures, and look an address up."""
    configure("demo", "warning")
    findings: list[Item] = []
    stop = stop_on_signals()
    bus = ZmqBus()
    with tempfile.TemporaryDirectory(prefix="dnstrail-demo-", ignore_cleanup_errors=True) as folder:
        plan = Plan(Path(folder), "demo", findings=(WatchedName.metadata.event_name,), user=calling_user())
        try:
            with running(plan, bus, findings.append, SystemClock()) as pipeline:
                pipeline.work(stop, lambda: pipeline.ended)
                if pipeline.ended:
                    pipeline.stats(stop)  # returns when the cache has applied everything
                    _show(LookupClient(lookups_address(plan.run_dir), bus=bus), findings)
        finally:
            bus.close()


def _show(client: LookupClient, findings: list[Item]) -> None:
    _title(f"Which names is {_ADDRESS} known by, and which query led to it?   (dnstrail get {_ADDRESS})")
    click.echo(found_text(_ADDRESS, client.request("get", key=_ADDRESS)["data"]))
    _title(f"On which paths?   (dnstrail trail {_ADDRESS})")
    show(*trail_trees(client.request("trail", key=_ADDRESS)["data"]))
    _title("Which findings did the signatures report?   (dnstrail --events WATCHED_NAME)")
    table = EventTable(Console(markup=False, highlight=False, emoji=False), datetime.now().astimezone())
    for finding in findings:
        table.print(finding)


def _title(text: str) -> None:
    click.secho(f"\n== {text}", bold=True)


if __name__ == "__main__":
    run_command(command, "demo")
