"""The process of the worker of the history: `dnstrail history`, or `python -m dnstrail_history`."""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import facts_address, lookups_address, socket_path
from dnstrail.client import LookupClient
from dnstrail.errors import SettingsError
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import (
    HELP,
    check_file_path,
    examples,
    log_level_option,
    run_command,
    run_dir_option,
    user_option,
)
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.losses import worker_name
from dnstrail.protocol.replays import replay_address
from dnstrail.users import User
from dnstrail_history.store.store import BYTES, DAYS, FactStore
from dnstrail_history.worker import TOPICS, run

_EXAMPLES = examples("dnstrail history", "dnstrail history --folder /var/lib/dnstrail/history --days 30 --size 8192")
_MEGABYTE = 1 << 20
_TIMEOUT = 0.5  # seconds for a report of losses


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=Path("/var/lib/dnstrail/history"),
    show_default=True,
    callback=check_file_path,
    help="Folder of the history, which this worker alone uses.",
)
@click.option(
    "--days",
    type=click.FloatRange(0, min_open=True),
    default=DAYS,
    show_default=True,
    help="Days for which each transaction is kept.",
)
@click.option(
    "--size",
    metavar="MIB",
    type=click.IntRange(1),
    default=BYTES // _MEGABYTE,
    show_default=True,
    help="MiB of transactions; beyond it the oldest are removed.",
)
@metrics_option
@user_option
@run_dir_option
@log_level_option
def command(
    folder: Path,
    days: float,
    size: int,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Keep the DNS transactions and the connections of this host on disk, each with its process and its result.

    Each relation, with the programs that were given it, is kept for a year.
    """
    configure("history", log_level)
    observer = observer_of(metrics, "dnstrail_history")
    lookups = lookups_address(run_dir)
    sockets = socket_path(lookups).parent
    user = user_of_worker(user, sockets)
    _make_folder(folder, user)
    drop_privileges(user, sockets)
    stop, clock = stop_on_signals(), SystemClock()
    bus = ZmqBus()
    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        store = FactStore(folder.absolute(), clock, days=days, most_bytes=size * _MEGABYTE)
        client = LookupClient(lookups, timeout=_TIMEOUT, bus=bus, beat=watched.beat)
        run(
            bus,
            FactFeed(bus, lookups, TOPICS),
            bus.requester(replay_address(facts_address(lookups))),
            store,
            clock,
            stop,
            report=partial(client.report_losses, worker_name("history")),
            beat=watched.beat,
            observe=partial(observer, watched.observe),
        )


def _make_folder(folder: Path, user: User | None) -> None:
    """Make the folder for the user that this worker becomes.

    Raises:
        SettingsError: It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        if user is not None:
            os.chown(folder, user.uid, user.gid)
    except FileExistsError:
        return
    except OSError as error:
        raise SettingsError(f"--folder {folder}: {error.strerror}") from error


if __name__ == "__main__":
    run_command(command, "dnstrail history")
