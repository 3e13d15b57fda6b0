"""The commands of the fleet at its engine: `dnstrail fleet send`, or `python -m dnstrail_fleet send`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import fleet_address
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.history.folder import become_owner, check_folder, owner_of
from dnstrail.history.following import SegmentSpool
from dnstrail.history.subjects import Subjects, subjects_of
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.pipeline import FLEET, HISTORY, SENDER
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import (
    HELP,
    check_address,
    check_file_path,
    examples,
    log_level_option,
    run_command,
    run_dir_option,
    user_option,
)
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.private_folder import hand_over_private
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.users import User
from dnstrail_fleet.clickhouse.address import FORM, ClickHouseAddress, parse_clickhouse
from dnstrail_fleet.engine_option import JOINED, engine_option
from dnstrail_fleet.enrolment.command import invite, join, revoke
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_fleet.lookups.contract import RowReader
from dnstrail_fleet.lookups.server import LONGEST, FleetServer, open_rows
from dnstrail_fleet.sender.state import SenderState
from dnstrail_fleet.sender.worker import COLLECT
from dnstrail_fleet.sender.worker import run as send_rows
from dnstrail_fleet.store.contract import RowStore
from dnstrail_fleet.store.schema import NAME
from dnstrail_fleet.store.store import DAYS, FleetStore
from dnstrail_fleet.store.worker import run as store_rows

_EXAMPLES = examples("dnstrail fleet get 203.0.113.7", "dnstrail fleet hosts")
_SEND_EXAMPLES = examples(
    "sudo dnstrail fleet send",
    "sudo dnstrail fleet send --exclude name=bank.example --exclude user=alice",
)
_STORE_EXAMPLES = examples(
    "dnstrail fleet store --engine valkeys://store@engine.example,ca=/etc/dnstrail/ca.pem,password=/etc/dnstrail/pass",
)


_FOLDER = click.Path(path_type=Path, file_okay=False, readable=False)


def _convert_clickhouse(_ctx: click.Context, _param: click.Parameter, value: str | None) -> ClickHouseAddress | None:
    return None if value is None else parse_clickhouse(value)


def _convert_exclude(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Subjects:
    return subjects_of(values)


@click.group(epilog=_EXAMPLES, context_settings=HELP)
def command() -> None:
    """Know what many hosts were answered.

    Each host sends what its history holds to an engine. A store keeps the rows of all hosts, and answers lookups.
    """


@command.command(epilog=_SEND_EXAMPLES)
@engine_option("The invitation of this host, or the Valkey or Kafka server with the log.", JOINED)
@click.option(
    "--history",
    type=_FOLDER,
    default=HISTORY,
    show_default=True,
    callback=check_file_path,
    help="Folder of the history; it is only read.",
)
@click.option(
    "--folder",
    type=_FOLDER,
    default=SENDER,
    show_default=True,
    callback=check_file_path,
    help="Folder of the state of this sender, which it uses alone.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="KIND=VALUE",
    callback=_convert_exclude,
    help="Never send answers about name=SUFFIX, or to user=NAME|UID or container=NAME|ID (repeatable).",
)
@metrics_option
@log_level_option
def send(
    engine: EngineAddress,
    history: Path,
    folder: Path,
    exclude: Subjects,
    metrics: tuple[str, int] | None,
    log_level: str,
) -> None:
    """Send what the history of this host holds to the engine, as rows.

    A row is one relation, with the question, the program and the container that asked, on one day, and the time of
    their last connection. Packets and client addresses stay on the host. USER of the engine is the name of this host in
    the fleet. As root the sender becomes the owner of the history.
    """
    from dnstrail_fleet.log.engine_log import open_log

    configure("fleet-send", log_level)
    observer = observer_of(metrics, "dnstrail_fleet")
    log = open_log(engine)
    check_folder(history)
    hand_over_private(folder, owner_of(history), "--folder")
    become_owner(history)
    stop = stop_on_signals()
    gc.freeze()
    gc.set_threshold(COLLECT)
    with closing(log), serving_metrics(metrics, Heartbeat().beat) as watched, closing(SenderState(folder)) as state:
        observe = partial(observer, watched.observe)
        spool = SegmentSpool(history, exclude)
        send_rows(spool, log, state, SystemClock(), stop, host=engine.user, beat=watched.beat, observe=observe)


@command.command(epilog=_STORE_EXAMPLES)
@engine_option("The Valkey or Kafka server with the log, its CA, and the file with the password of USER.")
@click.option(
    "--folder",
    type=_FOLDER,
    default=FLEET,
    show_default=True,
    callback=check_file_path,
    help="Folder of the store.",
)
@click.option(
    "--clickhouse",
    metavar=FORM,
    callback=_convert_clickhouse,
    help="The ClickHouse server that keeps the rows, instead of a file in --folder.",
)
@click.option(
    "--days", type=click.IntRange(1), default=DAYS, show_default=True, help="Days for which each row is kept."
)
@click.option(
    "--bind",
    metavar="ADDRESS",
    callback=check_address,
    help="Address to bind for lookups (default: fleet.sock in the run-dir).",
)
@metrics_option
@user_option
@run_dir_option
@log_level_option
def store(
    engine: EngineAddress,
    folder: Path,
    clickhouse: ClickHouseAddress | None,
    days: int,
    bind: str | None,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Store the rows of all hosts, and answer lookups."""
    from dnstrail_fleet.log.engine_log import open_log

    configure("fleet-store", log_level)
    observer = observer_of(metrics, "dnstrail_fleet")
    log, address = open_log(engine), bind or fleet_address(run_dir)
    keys = keys_for(default_keys(), [address])
    user = user_of_worker(user, run_dir)
    hand_over_private(folder, user, "--folder")
    drop_privileges(user, run_dir)
    stop, clock = stop_on_signals(), SystemClock()
    with closing(log), serving_metrics(metrics, Heartbeat().beat) as watched:
        kept, open_reader = _open_store(folder.absolute(), clickhouse, days)
        with closing(kept):
            server = FleetServer(partial(ZmqBus, keys), address, folder.absolute() / NAME, clock, open_reader)
            observe = partial(observer, watched.observe)
            store_rows(log, kept, clock, stop, server=server, beat=watched.beat, observe=observe)


def _open_store(
    folder: Path, clickhouse: ClickHouseAddress | None, days: int
) -> tuple[RowStore, Callable[[Path], RowReader]]:
    """Return a store in a folder or on a server, and what opens it to answer lookups."""
    if clickhouse is None:
        return FleetStore(folder, days=days), open_rows
    # Each host starts a sender, which would load what the standard library needs for HTTP.
    from dnstrail_fleet.clickhouse.client import ClickHouseClient
    from dnstrail_fleet.clickhouse.reading import ClickHouseReader
    from dnstrail_fleet.clickhouse.store import ClickHouseStore

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = ClickHouseStore(ClickHouseClient(clickhouse), SystemClock(), days=days)
    return store, lambda _: ClickHouseReader(ClickHouseClient(clickhouse, LONGEST))


for _command in (invite, join, revoke):
    command.add_command(_command)

if __name__ == "__main__":
    run_command(command, "dnstrail fleet")
