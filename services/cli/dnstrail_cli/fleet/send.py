"""`dnstrail fleet send`: the sender of this host, over its history."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.pipeline import HISTORY, SENDER
from dnstrail.process.command import check_file_path, examples, log_level_option
from dnstrail_fleet.__main__ import engine_option
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_history.subjects import Subjects, subjects_of

_EXAMPLES = examples(
    "dnstrail fleet send --engine valkeys://web1@engine.example,ca=/etc/dnstrail/ca.pem,password=/etc/dnstrail/pass",
    "dnstrail fleet send --engine ... --exclude name=bank.example --exclude user=alice",
)
_FOLDER = click.Path(path_type=Path, file_okay=False, readable=False)


def _convert_exclude(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Subjects:
    return subjects_of(values)


@click.command(epilog=_EXAMPLES)
@engine_option
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

    A row is one relation, with the question, the program and the container that asked, on one day. Packets, client
    addresses and connections stay on the host. USER of the engine is the name of this host in the fleet. As root the
    sender becomes the owner of the history.
    """
    from dnstrail.history.folder import become_owner, check_folder, owner_of
    from dnstrail.process.clock import SystemClock
    from dnstrail.process.heartbeat import Heartbeat
    from dnstrail.process.log import configure
    from dnstrail.process.private_folder import hand_over_private
    from dnstrail.process.signals import stop_on_signals
    from dnstrail_fleet.log.valkey_log import ValkeyLog
    from dnstrail_fleet.sender.state import SenderState
    from dnstrail_fleet.sender.worker import run
    from dnstrail_history.store.following import SegmentSpool

    configure("fleet-send", log_level)
    observer = observer_of(metrics, "dnstrail_fleet")
    log = ValkeyLog(engine, time.monotonic)
    check_folder(history)
    hand_over_private(folder, owner_of(history), "--folder")
    become_owner(history)
    stop = stop_on_signals()
    with closing(log), serving_metrics(metrics, Heartbeat().beat) as watched, closing(SenderState(folder)) as state:
        observe = partial(observer, watched.observe)
        spool = SegmentSpool(history, exclude)
        run(spool, log, state, SystemClock(), stop, host=engine.user, beat=watched.beat, observe=observe)
