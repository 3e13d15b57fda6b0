"""`make demo`: the bundled capture through the real workers; then a lookup, a tree and the finding it led to."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.process.command import run_command
from dnstrail.process.log import configure
from dnstrail.process.signals import stop_on_signals
from dnstrail_cli.pipeline import Pipeline, Plan
from dnstrail_cli.tables import event_line, found_table, show
from dnstrail_cli.trail_tree import trail_trees
from dnstrail_signatures.builtin.watched_name import WatchedName

_ADDRESS = "192.0.2.10"


@click.command()
def command() -> None:
    """Play the bundled capture through probe, cache and signatures, and ask about it."""
    configure("demo", "warning")
    findings: list[dict[str, Any]] = []
    stop = stop_on_signals()
    bus = ZmqBus()
    with tempfile.TemporaryDirectory(prefix="dnstrail-demo-") as folder:
        plan = Plan(Path(folder), "demo", findings=(WatchedName.metadata.event_name,))
        try:
            pipeline = Pipeline(plan, bus, findings.append)
            with pipeline.running():
                pipeline.work(stop, lambda: pipeline.ended)
                if pipeline.ended:
                    pipeline.stats()  # waits until the cache has seen everything
                    _show(LookupClient(lookups_address(plan.run_dir), bus=bus), findings)
        finally:
            bus.close()


def main() -> None:
    """The entry point."""
    run_command(command, "demo")


def _show(client: LookupClient, findings: list[dict[str, Any]]) -> None:
    _title(f"What is {_ADDRESS}, and which query did it come from?   (dnstrail get {_ADDRESS})")
    show(found_table(_ADDRESS, client.request("get", key=_ADDRESS)["data"]))
    _title(f"By which ways?   (dnstrail trail {_ADDRESS})")
    show(*trail_trees(client.request("trail", key=_ADDRESS)["data"]))
    _title("What did the signatures find?   (dnstrail --events WATCHED_NAME)")
    for finding in findings:
        click.echo(event_line(finding))


def _title(text: str) -> None:
    click.secho(f"\n== {text}", bold=True)


if __name__ == "__main__":
    main()
