"""The probe as a process: `dnstrail probe`, `python -m dnstrail_probe`."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import click
import msgspec

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, make_folder, socket_path
from dnstrail.bus.keys import default_keys, keys_for
from dnstrail.bus.remote_host import key_digest
from dnstrail.bus.tcp import local_address
from dnstrail.capture_options import CaptureOptions, capture_options, check_labels
from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail.kernel.libc import call
from dnstrail.metrics.option import metrics_option, observer_of, serving_metrics
from dnstrail.process.clock import StreamClock
from dnstrail.process.command import (
    HELP,
    check_address,
    check_number,
    examples,
    log_level_option,
    run_command,
    run_dir_option,
    user_option,
)
from dnstrail.process.config_file import config_option
from dnstrail.process.heartbeat import Heartbeat
from dnstrail.process.identity import host_identity
from dnstrail.process.log import configure
from dnstrail.process.privileges import drop_privileges
from dnstrail.process.run_dir import user_of_worker
from dnstrail.process.signals import stop_on_signals
from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail.protocol.batches import UNKNOWN
from dnstrail.protocol.replays import replay_address
from dnstrail.users import User
from dnstrail_probe.check import CheckReport, check_host
from dnstrail_probe.registry import AUTO, best_source, capture_option, open_source
from dnstrail_probe.source import Source
from dnstrail_probe.sources.paced import PacedSource
from dnstrail_probe.worker import run

NICENESS = -5  # gives about three times the CPU share of niceness 0: sched(7)
_AUTOGROUP = Path("/proc/self/autogroup")  # where it exists, niceness only counts within one session
_CHECK = "Show what this host can and cannot do, with remedies; exit 1 if no live source can be opened."
_NOTHING_LIVE = 1
_WIDTH = 120  # columns of a report where the output is no terminal
_EXAMPLES = examples(
    "sudo dnstrail probe",
    "sudo dnstrail probe --check",
    "sudo dnstrail probe --capture ebpf:getaddrinfo --dns-ports 53,5353",
    "dnstrail probe --capture dnstap:/run/unbound/dnstap.sock",
    "dnstrail probe --capture traffic.pcapng --subscribers 2",
)


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@config_option("probe")
@capture_option
@click.option(
    "--publish",
    multiple=True,
    callback=check_address,
    help="Address to bind (repeatable; default: events.sock in the run-dir).",
)
@click.option(
    "--subscribers", type=click.IntRange(min=0), help="Subscribers to wait for first (default: 1 for a file, 0 live)."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    callback=check_number,
    help="Play a file at X times its own pace.",
)
@click.option("--check", is_flag=True, help=_CHECK)
@click.option("--json", "as_json", is_flag=True, help="With --check: one JSON object.")
@capture_options
@click.option(
    "--label",
    multiple=True,
    metavar="KEY",
    callback=check_labels,
    help="Key of a label of containers and pods that events state (repeatable; eBPF).",
)
@metrics_option
@user_option
@run_dir_option
@log_level_option
@click.pass_context
def command(
    ctx: click.Context,
    capture: str,
    publish: tuple[str, ...],
    subscribers: int | None,
    speed: float | None,
    check: bool,
    as_json: bool,
    options: CaptureOptions,
    label: tuple[str, ...],
    metrics: tuple[str, int] | None,
    user: User | None,
    run_dir: Path,
    log_level: str,
) -> None:
    """Capture DNS messages and publish them.

    As root, the probe becomes the user of --user once its source is open. With eBPF it keeps its user, since the socket
    of Docker and the layers of images belong to root.
    """
    if check:
        report = check_host(options, run_dir)
        _show_report(report, as_json=as_json)
        ctx.exit(0 if report.live else _NOTHING_LIVE)
    configure("probe", log_level)
    options = msgspec.structs.replace(options, labels=label)
    observer = observer_of(metrics, "dnstrail_probe")
    clock = StreamClock()
    publish = publish or (events_address(run_dir),)
    address = local_address(publish, events_address(run_dir))
    folder = socket_path(address).parent
    keys = keys_for(default_keys(), publish)
    user = user_of_worker(user, folder)
    source: Source = best_source(_report, options, clock) if capture == AUTO else open_source(capture, options, clock)
    identity = host_identity() if source.live else UNKNOWN
    if keys is not None:
        identity = identity._replace(key=key_digest(keys.public))
    if source.live:
        go_first()
    if not source.capabilities:
        drop_privileges(user, folder)
    give_up_privileges(source.capabilities, address)
    stop = stop_on_signals()  # not earlier: a signal must end the opening of a pipe that has no writer
    if speed is not None and not source.live:
        source = PacedSource(source, clock.clock, speed, stop.wait)
    beat = Heartbeat().beat if source.live else _no_beat
    bus = ZmqBus(keys)
    stop.on_set = bus.wake
    with closing(bus), closing(source), serving_metrics(metrics, beat, bus.wake) as watched:
        publisher = bus.publisher(*publish, lossless=not source.live)
        replays = bus.server(*map(replay_address, publish)) if source.live else None
        expected = (0 if source.live else 1) if subscribers is None else subscribers
        observe = partial(observer, watched.observe)
        run(source, publisher, clock, stop, expected, identity, watched.beat, observe, replays, bus)


def _no_beat() -> None:
    """Send no heartbeat: a read of a pipe may take any time."""


def _show_report(report: CheckReport, *, as_json: bool) -> None:
    """Print what the host can do: a table for people, or JSON for programs."""
    if as_json:
        click.echo(json_line(msgspec.to_builtins(report)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "needed for", "reason", "remedy", box=None, pad_edge=False)
    for result in report.checks:
        cells = (result.name, "yes" if result.able else "no", result.purpose, result.reason, result.remedy)
        table.add_row(*(Text(escape_unprintable(cell)) for cell in cells))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    console.print(f"\nauto captures by {report.auto}" + ("" if report.live else ": no live source can be opened"))


def _report(text: str) -> None:
    click.echo(f"dnstrail: {text}", err=True)


def give_up_privileges(capabilities: tuple[str, ...], address: str) -> None:
    """Drop all capabilities except these; () drops every one.

    The user id stays. If the folder of the socket belongs to another user, new files are created as that user's.

    Raises:
        BusError: the folder belongs to another user.
    """
    folder = socket_path(address).parent
    with suppress(OSError):  # the bind reports it
        make_folder(address, folder)
        status = folder.stat()
        if os.geteuid() == 0:
            call("setfsgid", status.st_gid)
            call("setfsuid", status.st_uid)
    keep_capabilities(*capabilities)


def go_first() -> None:
    """Raise the priority of the probe where the kernel allows it (CAP_SYS_NICE), so that bursts lose fewer events."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        if os.getsid(0) == os.getpid():  # the session belongs to this worker
            _AUTOGROUP.write_text(str(NICENESS))


if __name__ == "__main__":
    run_command(command, "dnstrail probe")
