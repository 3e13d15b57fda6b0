"""`dnstrail fleet signatures`: the engine of signatures over the rows of the fleet."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import fleet_address
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.client import LookupClient
from dnstrail.datasource import DataSources
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import check_address, examples, log_level_option, run_dir_option, user_option
from dnstrail.process.config_file import FLEET_SIGNATURES, ConfigFile, find_config
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.process.terminal import json_line
from dnstrail.signature import Finding
from dnstrail.tracee.event_shape import finding_map
from dnstrail.users import User
from dnstrail_fleet.engine_option import engine_option
from dnstrail_fleet.log.engine_address import EngineAddress

_EXAMPLES = examples(
    "dnstrail fleet signatures --engine valkeys://store@engine.example,ca=/etc/dnstrail/ca.pem,password=/etc/dnstrail/p"
)


def _convert_config(_ctx: click.Context, _param: click.Parameter, value: str | None) -> ConfigFile:
    return find_config(value, FLEET_SIGNATURES)


@click.command(epilog=_EXAMPLES)
@engine_option("The Valkey or Kafka server with the log, its CA, and the file with the password of USER.")
@click.option(
    "--store",
    metavar="ADDRESS",
    callback=check_address,
    help="Address of the store (default: fleet.sock in the run-dir).",
)
@click.option(
    "--findings",
    callback=check_address,
    help="Address that receives the findings (default: JSON lines on stdout).",
)
@click.option(
    "--signatures",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="Load signatures from a file or a folder (repeatable).",
)
@click.option(
    "--config",
    metavar="FILE",
    callback=_convert_config,
    help=f"File of settings of these signatures; none: no file (default: {FLEET_SIGNATURES} if it exists).",
)
@metrics_option
@user_option
@run_dir_option
@log_level_option
def signatures(
    engine: EngineAddress,
    store: str | None,
    findings: str | None,
    paths: tuple[Path, ...],
    config: ConfigFile,
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Run signatures over what all hosts learned, and report their findings.

    Start as many as you need: each entry is handled by one of them, and by another one if that one dies.
    """
    from dnstrail_fleet.log.engine_log import open_stored
    from dnstrail_fleet.signatures.events import EVENT_IDS
    from dnstrail_fleet.signatures.source import FleetDataSource
    from dnstrail_fleet.signatures.worker import FleetSignatureWorker, run
    from dnstrail_signatures.engine.engine import Engine
    from dnstrail_signatures.findings import Delivery, delivery_over
    from dnstrail_signatures.loading.chosen import Choice
    from dnstrail_signatures.loading.load import OF_FLEET

    configure("fleet-signatures", log_level)
    observer = observer_of(metrics, "dnstrail_fleet")
    address = store or fleet_address(run_dir)
    keys = keys_for(default_keys(), [address, findings or ""])
    choice = Choice(paths, (), config, OF_FLEET)
    user = user_of_worker(user, run_dir)
    found = choice.find(user.uid if user else None)
    log = open_stored(engine)
    drop_privileges(user, run_dir)
    chosen, stop = choice.choose(found), stop_on_signals()
    ids = MappingProxyType({**chosen.ids, **EVENT_IDS})
    with (
        closing(log),
        serving_metrics(metrics, Heartbeat().beat) as watched,
        closing(ZmqBus(keys)) as bus,
        closing(LookupClient(address, bus=bus)) as client,
    ):
        source = FleetDataSource(client)
        delivery = delivery_over(bus.pusher(findings), stop, watched.beat) if findings else Delivery(_print)

        def report(finding: Finding) -> None:
            delivery.send(finding_map(finding, ids), live=False)

        handler = Engine(
            chosen.classes, DataSources(source), report, settings=chosen.settings, asked=chosen.asked, facts=False
        )
        worker = FleetSignatureWorker(log, handler, source, delivery, SystemClock(), watched.beat)
        observer(watched.observe, worker)
        run(worker, stop)


def _print(message: dict[str, Any]) -> None:
    click.echo(json_line(message))
