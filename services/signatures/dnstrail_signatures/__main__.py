"""The process of the signature worker: `dnstrail signatures`, or `python -m dnstrail_signatures`."""

from __future__ import annotations

import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnstrail.bus import Subscriber, ZmqBus
from dnstrail.bus.ipc import conflicts_address, events_address, lookups_address
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.bus.tcp import is_tcp
from dnstrail.errors import SettingsError
from dnstrail.events import DNS_ANSWER_CONFLICT
from dnstrail.metrics.option import metrics_option, serving_metrics
from dnstrail.process.command import (
    HELP,
    check_address,
    examples,
    log_level_option,
    probes_option,
    run_command,
    run_dir_option,
    subscribe_option,
    user_option,
    worker_cache_option,
)
from dnstrail.process.config_file import ConfigFile, config_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import reload_on_signal, stop_on_signals
from dnstrail.process.terminal import json_line
from dnstrail.protocol.replays import replay_address
from dnstrail.users import User
from dnstrail_signatures.engine.time_budget import BUDGET, TimeBudget
from dnstrail_signatures.events.conflict_feed import ConflictFeed
from dnstrail_signatures.events.selected_events import topics_of
from dnstrail_signatures.findings.delivery import Delivery, delivery_over
from dnstrail_signatures.group.join import ALONE, GROUP, LONGEST, join
from dnstrail_signatures.group.missed_turns import Replays
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Choice, Chosen
from dnstrail_signatures.loading.load import TEST
from dnstrail_signatures.loading.names import private_stdout, write_list, write_names
from dnstrail_signatures.loading.new_signature import write_signature
from dnstrail_signatures.patient_lookups import PatientDns
from dnstrail_signatures.worker import SignatureWorker, run

if TYPE_CHECKING:
    from dnstrail.metrics.board import Observe

_EXAMPLES = examples(
    "dnstrail signatures",
    "dnstrail signatures --signatures ./my_signature.py --select MY_EVENT",
    "dnstrail signatures --cache none | jq .eventName",
    "dnstrail signatures --list",
)
_MILLISECONDS = 1000  # in a second


def _check_budget(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # click takes it for a number in every range
        raise click.BadParameter(f"{value} is no number")
    return value


def _check_group(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not (value.isprintable() and 0 < len(value) <= LONGEST):
        raise click.BadParameter(f"{value!r} has not 1 to {LONGEST} printable characters")
    return value


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@config_option("signatures", expose=True)
@subscribe_option
@worker_cache_option(check_address, "run without the DNS data source")
@click.option(
    "--findings",
    callback=check_address,
    help="Address that receives the findings (default: JSON lines on stdout).",
)
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
    callback=_check_budget,
    show_default=True,
    help="Milliseconds of processor time that a signature may take for one event.",
)
@click.option(
    "--state",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Keep here what signatures need after a restart, such as the last good watch list (default: do not).",
)
@click.option(
    "--group",
    default=GROUP,
    show_default=True,
    callback=_check_group,
    help="The workers with which this one shares the events; none: it handles all of them.",
)
@probes_option
@metrics_option
@user_option
@run_dir_option
@log_level_option
def command(
    config: ConfigFile,
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
    state: Path | None,
    group: str,
    probes: int,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Run signatures over events, and report their findings."""
    configure("signatures", log_level)
    if names:
        with private_stdout() as stdout:
            write_names(stdout, signatures, config, user)
        return
    if new is not None:
        _write_new(new)
        return
    if listed:
        write_list(signatures, config, user)
        return
    observer = _observer(metrics)
    user = user_of_worker(user, run_dir)
    keys = keys_for(default_keys(), [*subscribe, cache or "", findings or ""])
    choice = Choice(signatures, select, config)
    found = choice.find(user.uid if user else None)
    drop_privileges(user, run_dir)
    _check_state(state)
    chosen = choice.choose(found)
    stop, reload = stop_on_signals(), reload_on_signal()
    bus = ZmqBus(keys)

    def pause(seconds: float) -> bool:
        """Keep the events in memory that arrive while a lookup waits; signatures have threads of their own, too."""
        if threading.current_thread() is threading.main_thread():
            subscriber.fill()
        return stop.wait(seconds)

    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        beat = watched.beat

        def keep_alive() -> None:
            """Beat, and renew the membership: an event may take longer than the group waits for a member."""
            beat()
            if threading.current_thread() is threading.main_thread():
                share.renew(time.monotonic())

        dns = None if no_cache else PatientDns(cache or lookups_address(run_dir), bus=bus, beat=keep_alive, pause=pause)
        rejoin = None if dns is None or group == ALONE else partial(join, bus, dns.client.address, group, stop, beat)
        membership = rejoin(chosen.classes) if rejoin else None
        conflicts = None
        if dns is not None and not is_tcp(dns.client.address):  # the cache publishes conflicts on its own host
            published = bus.subscriber([conflicts_address(dns.client.address)], [DNS_ANSWER_CONFLICT])
            conflicts = ConflictFeed(bus, published, dns.client)
        subscriber = bus.subscriber(subscribe or [events_address(run_dir)], [])
        pusher = bus.pusher(findings) if findings else None

        def replaying() -> None:
            keep_alive()
            subscriber.fill()

        publishers = subscribe or [events_address(run_dir)]
        replays = Replays(bus, [bus.requester(replay_address(address)) for address in publishers], replaying, stop)
        share = GroupShare(membership, rejoin, replays)
        worker = SignatureWorker(
            subscriber,
            chosen,
            delivery_over(pusher, stop, keep_alive) if pusher else Delivery(_print),
            dns=dns,
            conflicts=conflicts,
            budget=TimeBudget(budget / _MILLISECONDS),
            share=share,
            beat=keep_alive,
            probes=probes,
            state=state,
        )
        _subscribe(subscriber, chosen)
        observer(watched.observe, worker)
        gc.freeze()  # a collection over all modules would delay the events
        run(bus, worker, stop, (reload, choice.again))


def _subscribe(subscriber: Subscriber, chosen: Chosen) -> None:
    """Subscribe once every signature has started: a probe waits for its subscribers before it publishes."""
    for topic in topics_of(chosen.classes):  # the last one is the one that probes count
        subscriber.subscribe(topic)


def _write_new(name: str) -> None:
    """Write a new signature and its test, and print their paths and the command for the test."""
    click.echo("\n".join(map(str, write_signature(Path(), name))))
    click.echo(f"dnstrail: to run the test: {sys.executable} -m unittest {TEST}{name}", err=True)


def _check_state(folder: Path | None) -> None:
    """Refuse a folder in which this user cannot write.

    Raises:
        SettingsError: it is no folder, or the user may not write there.
    """
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise SettingsError(f"--state {folder}: must be a folder in which user {os.geteuid()} may write")


def _observer(metrics: tuple[str, int] | None) -> Callable[[Observe, SignatureWorker], None]:
    """Return how the metrics of the worker are observed. This is imported before the change of user."""
    if metrics is None:
        return lambda _observe, _worker: None
    from dnstrail_signatures.metrics import observe_signatures  # noqa: PLC0415 - imports prometheus_client, for metrics alone

    return observe_signatures


def main() -> None:
    """Run the command."""
    run_command(command, "dnstrail signatures")


def _print(message: dict[str, Any]) -> None:
    if "eventName" in message:
        click.echo(json_line(message))


if __name__ == "__main__":
    main()
