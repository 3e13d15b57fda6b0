"""The process of the signature worker: `dnstrail signatures`, or `python -m dnstrail_signatures`."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.errors import SettingsError
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.process.command import (
    HELP,
    check_address,
    check_file_path,
    check_number,
    examples,
    log_level_option,
    probes_option,
    run_command,
    run_dir_option,
    subscribe_option,
    user_option,
    worker_cache_option,
)
from dnstrail.process.config_file import config_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import reload_on_signal, stop_on_signals
from dnstrail_signatures.assembly import MILLISECONDS, Options, WorkerAssembly
from dnstrail_signatures.engine.time_budget import BUDGET
from dnstrail_signatures.group.membership import GROUP, LONGEST
from dnstrail_signatures.loading.chosen import Choice
from dnstrail_signatures.loading.load import TEST
from dnstrail_signatures.loading.names import private_stdout, write_list, write_names
from dnstrail_signatures.loading.new_signature import write_signature
from dnstrail_signatures.worker import run

_EXAMPLES = examples(
    "dnstrail signatures",
    "dnstrail signatures --signatures ./my_signature.py --select MY_EVENT",
    "dnstrail signatures --cache none | jq .eventName",
    "dnstrail signatures --list",
)


def _check_group(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not (value.isprintable() and 0 < len(value) <= LONGEST):
        raise click.BadParameter(f"{value!r} has not 1 to {LONGEST} printable characters")
    return value


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@config_option("signatures", expose=True)
@subscribe_option
@worker_cache_option(check_address, "run without the DNS data source")
@click.option(
    "--cache-facts",
    metavar="ADDRESS",
    callback=check_address,
    help="Address of the facts of the cache (default: facts.sock beside its lookups.sock).",
)
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
    default=BUDGET * MILLISECONDS,
    callback=check_number,
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
    "--mutes",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=check_file_path,
    help="Do not report the findings that this file mutes, which `dnstrail web --mutes` writes.",
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
    *,
    names: bool,
    listed: bool,
    new: str | None,
    log_level: str,
    **given: Any,  # as the fields of Options
) -> None:
    """Run signatures over events, and report their findings."""
    configure("signatures", log_level)
    options = Options(**given)
    if names:
        with private_stdout() as stdout:
            write_names(stdout, options.signatures, options.config, options.user)
    elif new is not None:
        _write_new(new)
    elif listed:
        write_list(options.signatures, options.config, options.user)
    else:
        _run(options)


def _run(options: Options) -> None:
    """Run a worker. What needs the rights of the start is imported and read before they are dropped."""
    observer = observer_of(options.metrics, "dnstrail_signatures")
    user = user_of_worker(options.user, options.run_dir)
    others = options.cache, options.cache_facts, options.findings
    keys = keys_for(default_keys(), [*options.subscribe, *(address or "" for address in others)])
    choice = Choice(options.signatures, options.select, options.config)
    found = choice.find(user.uid if user else None)
    drop_privileges(user, options.run_dir)
    _check_state(options.state)
    chosen = choice.choose(found)
    stop, reload = stop_on_signals(), reload_on_signal()
    bus = ZmqBus(keys)
    stop.on_set = reload.on_set = bus.wake
    with closing(bus), serving_metrics(options.metrics, Heartbeat().beat, bus.wake) as watched:
        worker = WorkerAssembly(options, bus, stop, watched.beat, chosen).worker()
        observer(watched.observe, worker)
        gc.freeze()  # a collection over all modules would delay the events
        run(bus, worker, stop, (reload, choice.again))


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


if __name__ == "__main__":
    run_command(command, "dnstrail signatures")
