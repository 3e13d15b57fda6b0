"""The process of the signature worker: `dnstrail signatures`, or `python -m dnstrail_signatures`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.client import DnsDataSource
from dnstrail.errors import SettingsError
from dnstrail.metrics.option import metrics_option, serving_metrics
from dnstrail.process.command import HELP, examples, log_level_option, run_command, run_dir_option, user_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.process.terminal import json_line
from dnstrail.signature import Signature
from dnstrail.tracee import signature_ids
from dnstrail.users import User
from dnstrail_signatures.join import ALONE, GROUP, join
from dnstrail_signatures.load import find, load
from dnstrail_signatures.names import is_on, private_stdout, write_list, write_names
from dnstrail_signatures.new_signature import write_signature
from dnstrail_signatures.selected_events import topics_of
from dnstrail_signatures.time_budget import BUDGET, TimeBudget
from dnstrail_signatures.worker import SignatureWorker, push_to, run

if TYPE_CHECKING:
    from dnstrail.metrics.board import Observe

_EXAMPLES = examples(
    "dnstrail signatures",
    "dnstrail signatures --signatures ./my_signature.py --select MY_EVENT",
    "dnstrail signatures --no-cache | jq .eventName",
    "dnstrail signatures --list",
)
_MILLISECONDS = 1000  # in a second


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@click.option("--subscribe", multiple=True, help="Address of a probe (default: events.sock in the run-dir).")
@click.option("--cache", help="Address of the cache (default: lookups.sock in the run-dir).")
@click.option("--no-cache", is_flag=True, help="Run without the DNS data source.")
@click.option("--findings", help="Address that receives the findings (default: JSON lines on stdout).")
@click.option(
    "--signatures",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),  # for the real user; `find` reports a file that cannot be read
    help="Load signatures from a file or a folder (repeatable).",
)
@click.option("--select", multiple=True, help="Run only the signature that reports this event (repeatable).")
@click.option("--names", is_flag=True, help="Print the events that the signatures report as one JSON line, and exit.")
@click.option("--list", "listed", is_flag=True, help="Print the signatures, one on each line, and exit.")
@click.option("--new", metavar="NAME", help="Write a signature NAME.py and its test into this folder, and exit.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    default=BUDGET * _MILLISECONDS,
    show_default=True,
    help="Milliseconds of processor time that a signature may take for one event.",
)
@click.option(
    "--group",
    default=GROUP,
    show_default=True,
    help="The workers with which this one shares the events; none: it handles all of them.",
)
@metrics_option
@user_option
@run_dir_option
@log_level_option
def command(
    subscribe: tuple[str, ...],
    cache: str | None,
    no_cache: bool,
    findings: str | None,
    signatures: tuple[Path, ...],
    select: tuple[str, ...],
    names: bool,
    listed: bool,
    new: str | None,
    budget: float,
    group: str,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Run signatures over events, and report their findings."""
    configure("signatures", log_level)
    if names:
        with private_stdout() as stdout:
            write_names(stdout, signatures, user)
        return
    if new is not None:
        click.echo("\n".join(map(str, write_signature(Path(), new))))
        return
    if listed:
        write_list(signatures, user)
        return
    observer = _observer(metrics)
    user = user_of_worker(user, run_dir)
    found = find(signatures, user.uid if user else None)
    drop_privileges(user, run_dir)
    loaded = load(found)
    chosen, ids = _choose(loaded, select), signature_ids(cls.metadata.event_name for cls in loaded)
    stop = stop_on_signals()
    allowed = TimeBudget(budget / _MILLISECONDS)
    bus = ZmqBus()
    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        beat = watched.beat
        dns = None if no_cache else DnsDataSource(cache or lookups_address(run_dir), bus=bus, beat=beat)
        membership = None if dns is None or group == ALONE else join(bus, dns.client.address, group, chosen, stop, beat)
        subscriber = bus.subscriber(subscribe or [events_address(run_dir)], topics_of(chosen))
        deliver = push_to(bus.pusher(findings), stop, beat) if findings else _print
        run(
            bus,
            subscriber,
            chosen,
            dns,
            deliver,
            stop,
            ids=ids,
            budget=allowed,
            membership=membership,
            beat=beat,
            observe=partial(observer, watched.observe),
        )


def _observer(metrics: tuple[str, int] | None) -> Callable[[Observe, SignatureWorker], None]:
    """Return how the metrics of the worker are observed. This is imported before the change of user."""
    if metrics is None:
        return lambda _observe, _worker: None
    from dnstrail_signatures.metrics import observe_signatures  # noqa: PLC0415 - imports prometheus_client, for metrics alone

    return observe_signatures


def main() -> None:
    """Run the command."""
    run_command(command, "dnstrail signatures")


def _choose(classes: list[type[Signature]], names: tuple[str, ...]) -> list[type[Signature]]:
    known = {cls.metadata.event_name for cls in classes}
    unknown = set(names) - known
    if unknown:
        raise SettingsError(
            f"--select: no signature reports {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
        )
    return [cls for cls in classes if (cls.metadata.event_name in names if names else is_on(cls))]


def _print(message: dict[str, Any]) -> None:
    if "eventName" in message:
        click.echo(json_line(message))


if __name__ == "__main__":
    main()
