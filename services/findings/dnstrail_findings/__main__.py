"""The process of the worker of findings: `dnstrail findings`, or `python -m dnstrail_findings`."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import findings_address, lookups_address, socket_path
from dnstrail.client import LookupClient
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.process.command import (
    HELP,
    check_local_address,
    examples,
    log_level_option,
    run_command,
    run_dir_option,
    user_option,
    worker_cache_option,
)
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.protocol.losses import worker_name
from dnstrail.users import User
from dnstrail_findings.targets import HELP as TO_HELP
from dnstrail_findings.targets import make_outputs, parse_target, try_places
from dnstrail_findings.worker import run

_EXAMPLES = examples(
    "dnstrail findings",
    "dnstrail findings --to file:/var/log/dnstrail.jsonl,size=64,files=5 --to syslog:udp://192.0.2.1:514",
    "dnstrail findings --to webhook:https://siem.example/in,format=ocsf,token=./token,spool=./spool",
)
_TIMEOUT = 0.5  # seconds for a lookup


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@click.option("--to", "targets", multiple=True, default=("stdout",), metavar="OUTPUT", help=TO_HELP)
@click.option(
    "--receive",
    callback=check_local_address,
    help="Address to bind for findings (default: findings.sock in the run-dir).",
)
@worker_cache_option(check_local_address, "write findings without trails")
@metrics_option
@user_option
@run_dir_option
@log_level_option
def command(
    targets: tuple[str, ...],
    receive: str | None,
    cache: str | None,
    no_cache: bool,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Receive findings, and write each of them once to every output."""
    configure("findings", log_level)
    observer = observer_of(metrics, "dnstrail_findings")
    parsed = [parse_target(target) for target in targets]
    address = receive or findings_address(run_dir)
    folder = socket_path(address).parent
    drop_privileges(user_of_worker(user, folder), folder)
    stop = stop_on_signals()
    try_places(parsed)
    outputs = make_outputs(parsed)
    bus = ZmqBus()
    with closing(bus), serving_metrics(metrics, Heartbeat().beat) as watched:
        client = LookupClient(cache or lookups_address(run_dir), timeout=_TIMEOUT, bus=bus, beat=watched.beat)
        run(
            bus,
            bus.puller(address),  # senders connect once every output was tried
            outputs,
            stop,
            lookups=None if no_cache else client,
            report=(lambda _: True) if no_cache else partial(client.report_losses, worker_name("findings")),
            beat=watched.beat,
            observe=partial(observer, watched.observe),
        )


if __name__ == "__main__":
    run_command(command, "dnstrail findings")
