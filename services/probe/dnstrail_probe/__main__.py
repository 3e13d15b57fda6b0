"""The probe as a process: `dnstrail probe`, `python -m dnstrail_probe`."""

from __future__ import annotations

from pathlib import Path

import click

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import HELP, examples, log_level_option, run_command, run_dir_option
from dnstrail.process.log import configure
from dnstrail.process.signals import stop_on_signals
from dnstrail_probe.check import check_host
from dnstrail_probe.check_report import show_report
from dnstrail_probe.options import CaptureOptions, capture_options, convert_capture
from dnstrail_probe.privileges import give_up_privileges, go_first
from dnstrail_probe.registry import AUTO, best_source, open_source
from dnstrail_probe.sources.paced import PacedSource
from dnstrail_probe.worker import run

_CHECK = "Show what this host can do and what it cannot, with the remedies; exit 1 if nothing live can be captured."
_NOTHING_LIVE = 1
_EXAMPLES = examples(
    "sudo dnstrail probe",
    "sudo dnstrail probe --check",
    "sudo dnstrail probe --capture ebpf:getaddrinfo --dns-ports 53,5353",
    "dnstrail probe --capture dnstap:/run/unbound/dnstap.sock",
    "dnstrail probe --capture traffic.pcapng --subscribers 2",
)


@click.command(epilog=_EXAMPLES, context_settings=HELP)
@click.option(
    "--capture",
    default="auto",
    show_default=True,
    callback=convert_capture,
    help="auto, ebpf[:getaddrinfo], packet, dnstap[:PATH], demo, a FILE, or - for a capture on stdin.",
)
@click.option("--publish", help="Address to bind (default: events.sock in the run-dir).")
@click.option("--subscribers", type=int, help="How many to wait for first (default: 1 for a file, none live).")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Play a file X times as fast as it was.")
@click.option("--check", is_flag=True, help=_CHECK)
@click.option("--json", "as_json", is_flag=True, help="With --check: one JSON object.")
@capture_options
@run_dir_option
@log_level_option
@click.pass_context
def command(
    ctx: click.Context,
    capture: str,
    publish: str | None,
    subscribers: int | None,
    speed: float | None,
    check: bool,
    as_json: bool,
    options: CaptureOptions,
    run_dir: Path,
    log_level: str,
) -> None:
    """Capture DNS messages and publish them."""
    if check:
        report = check_host(options, run_dir)
        show_report(report, as_json=as_json)
        ctx.exit(0 if report.live else _NOTHING_LIVE)
    configure("probe", log_level)
    clock = SystemClock()
    source = best_source(_say, options) if capture == AUTO else open_source(capture, options)
    if speed is not None and not source.live:
        source = PacedSource(source, clock, speed)
    if source.live:
        go_first()
    address = publish or events_address(run_dir)
    give_up_privileges(source.name, address)
    stop = stop_on_signals()  # from here on: the opening of a pipe without a writer can be interrupted
    bus = ZmqBus()
    try:
        publisher = bus.publisher(address, lossless=not source.live)
        expected = (0 if source.live else 1) if subscribers is None else subscribers
        run(source, publisher, clock, stop, expected)
    finally:
        source.close()
        bus.close(now=stop.is_set())


def main() -> None:
    """Run the command."""
    run_command(command, "dnstrail probe")


def _say(text: str) -> None:
    click.echo(f"dnstrail: {text}", err=True)


if __name__ == "__main__":
    main()
