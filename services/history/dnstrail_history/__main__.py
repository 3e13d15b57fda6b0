"""The process of the worker of the history: `dnstrail history`, or `python -m dnstrail_history`."""

from __future__ import annotations

import gc
from contextlib import closing
from functools import partial
from pathlib import Path

import click
import structlog

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import facts_address, history_address, lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import BusError
from dnstrail.history.subjects import Subjects, subjects_of
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.pipeline import HISTORY, is_empty
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import (
    HELP,
    cache_with_facts_option,
    check_file_path,
    check_number,
    examples,
    log_level_option,
    run_command,
    run_dir_option,
    user_option,
)
from dnstrail.process.config_file import config_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.private_folder import hand_over_private
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.losses import worker_name
from dnstrail.protocol.replays import replay_address
from dnstrail.users import User
from dnstrail_history.forget import HistoryFolder, forget
from dnstrail_history.past.server import PastServer
from dnstrail_history.store.retention import BYTES, DAYS
from dnstrail_history.store.store import FactStore
from dnstrail_history.worker import TOPICS, run

_EXAMPLES = examples(
    "dnstrail history",
    "dnstrail history --days 30 --size 8192 --exclude name=bank.example --exclude user=alice",
    "dnstrail history forget bank.example",
    "dnstrail history load monday.pcap",
)
_MEGABYTE = 1 << 20
_TIMEOUT = 0.5  # seconds for a report of losses


def _convert_exclude(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Subjects:
    return subjects_of(values)


@click.group(invoke_without_command=True, epilog=_EXAMPLES, context_settings=HELP)
@config_option("history")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=HISTORY,
    show_default=True,
    callback=check_file_path,
    help="Folder of the history, which this worker alone uses.",
)
@click.option(
    "--days",
    type=click.FloatRange(0, min_open=True),
    callback=check_number,
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
@click.option(
    "--exclude",
    multiple=True,
    metavar="KIND=VALUE",
    callback=_convert_exclude,
    help="Never keep questions about name=SUFFIX, or by user=NAME|UID or container=NAME|ID (repeatable). With a NAME no"
    " question of a container without a known name is kept.",
)
@cache_with_facts_option
@metrics_option
@user_option
@run_dir_option
@log_level_option
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    days: float,
    size: int,
    exclude: Subjects,
    cache: str | None,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Keep the DNS transactions and the connections of this host on disk, each with its process and its result.

    Each relation, with the programs that were given it, is kept for a year. Only root and the user of the worker can
    read the files.
    """
    ctx.obj = HistoryFolder(folder, exclude)
    if ctx.invoked_subcommand is not None:
        return
    configure("history", log_level)
    observer = observer_of(metrics, "dnstrail_history")
    lookups = cache or lookups_address(run_dir)
    user = user_of_worker(user, run_dir)
    hand_over_private(folder, user, "--folder")
    drop_privileges(user, run_dir)
    stop, clock = stop_on_signals(), SystemClock()
    bus = ZmqBus()
    if is_empty(folder):
        structlog.get_logger().info("names_are_kept", folder=str(folder), days=days, years=1)
    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        store = FactStore(folder.absolute(), clock, days=days, most_bytes=size * _MEGABYTE)
        client = LookupClient(lookups, timeout=_TIMEOUT, bus=bus, beat=watched.beat)
        gc.freeze()  # a collection over all modules would delay a lookup of a past time
        run(
            FactFeed(bus, lookups, TOPICS),
            bus.requester(replay_address(facts_address(lookups))),
            store,
            clock,
            stop,
            excluded=exclude,
            report=partial(client.report_losses, worker_name("history")),
            beat=watched.beat,
            observe=partial(observer, watched.observe),
            past=_served(history_address(lookups_address(run_dir)), folder.absolute()),
        )


def _served(address: str, folder: Path) -> PastServer | None:
    """Return the server of lookups of a past time; None if this user may not bind its socket: facts are kept anyway."""
    try:
        return PastServer(ZmqBus, address, folder)
    except BusError as error:
        structlog.get_logger().warning("past_not_served", address=address, error=str(error))
        return None


command.add_command(forget)


if __name__ == "__main__":
    run_command(command, "dnstrail history")
