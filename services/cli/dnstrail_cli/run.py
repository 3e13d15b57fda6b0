"""Runs of the whole pipeline: `dnstrail` itself, and `dnstrail replay`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from dnstrail.bus import ZmqBus
from dnstrail.errors import SettingsError
from dnstrail.events import DNS_ANSWER_CONFLICT, NAMES, NET_PACKET_DNS
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import run_dir_option
from dnstrail.process.log import configure
from dnstrail.process.privileges import calling_user
from dnstrail.process.signals import stop_on_signals
from dnstrail.settings import parse_dnscache
from dnstrail_cli.output import Output, OutputSettings, parse_output
from dnstrail_cli.pipeline import Pipeline, Plan
from dnstrail_probe.options import CaptureOptions, capture_options, options_of
from dnstrail_probe.registry import is_file, open_source
from dnstrail_signatures.load import load


class Selection(msgspec.Struct, frozen=True):
    """Which events to show, and of which signatures the findings; and where further signatures come from."""

    events: tuple[str, ...]
    findings: tuple[str, ...]
    paths: tuple[Path, ...]


def select(names: Iterable[str], paths: tuple[Path, ...]) -> Selection:
    """What all `--events` flags say together; without any: DNS packets and every finding.

    Raises:
        SettingsError: a name that there is not; the text names it.
    """
    known = tuple(cls.metadata.event_name for cls in load(paths))
    chosen = [name.strip() for given in names for name in given.split(",")] or [
        NET_PACKET_DNS,
        DNS_ANSWER_CONFLICT,
        *known,
    ]
    for name in chosen:
        if name not in NAMES and name not in known:
            raise SettingsError(f"unknown event {name!r}; known: {', '.join((*NAMES, *known))}")
    return Selection(
        tuple(name for name in NAMES if name in chosen),
        tuple(name for name in known if name in chosen),
        paths,
    )


def play(
    run_dir: Path,
    capture: str,
    dnscache: tuple[str, ...],
    selection: Selection,
    output: OutputSettings,
    *,
    stay: bool = False,
    speed: float | None = None,
    options: CaptureOptions,
) -> None:
    """Run the pipeline until its source ends (`stay`: then keep answering), or a signal says stop."""
    configure("dnstrail", "warning")
    settings = parse_dnscache(dnscache)
    plan = Plan(
        run_dir,
        _checked_source(capture),
        cache=settings.enabled,
        dnscache=dnscache,
        signatures=selection.paths,
        findings=selection.findings,
        events=selection.events,
        parse_arguments=output.parse_arguments,
        speed=speed,
        options=options_of(options),
        user=calling_user(),
    )
    stop = stop_on_signals()
    bus = ZmqBus()
    out = Output(output, SystemClock(), terminal=sys.stdout.isatty())
    try:
        pipeline = Pipeline(plan, bus, out.emit)
        with pipeline.running():
            pipeline.work(stop, lambda: pipeline.started)
            if pipeline.started:
                _say("ready")
            pipeline.work(stop, _releasing(out, lambda: pipeline.ended))
            if pipeline.ended:
                summary = _summary(pipeline.stats())
                pipeline.take_last_findings()
                out.release(everything=True)
                _say(f"the capture has ended: {summary}; {pipeline.shown} events shown")
            if pipeline.ended and stay:
                _say(f"still answering lookups (dnstrail get ... --run-dir {run_dir}); Ctrl-C ends it")
                pipeline.work(stop, lambda: False)
    finally:
        out.release(everything=True)
        bus.close()


@click.command()
@click.argument("file")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    help="X times as fast as it was (default: at once).",
)
@click.option("--dnscache", multiple=True, metavar="OPTIONS", help="Options of the cache.")
@click.option("--events", multiple=True, metavar="NAMES", help="Events and signatures to show, comma-separated.")
@click.option("--output", multiple=True, metavar="FORMAT", help="json, table, option:sort-events, ...")
@click.option("--signatures", multiple=True, type=click.Path(path_type=Path), help="A signature file, or a folder.")
@capture_options
@run_dir_option
def replay(
    file: str,
    speed: float | None,
    dnscache: tuple[str, ...],
    events: tuple[str, ...],
    output: tuple[str, ...],
    signatures: tuple[Path, ...],
    options: CaptureOptions,
    run_dir: Path,
) -> None:
    """Play a capture file (pcap, pcapng, dnstap) through the real pipeline."""
    play(
        run_dir,
        file,
        dnscache,
        select(events, signatures),
        parse_output(output),
        speed=speed,
        options=options,
    )


def _checked_source(capture: str) -> str:
    """The source to open; a file that is no capture is told here, before any worker has started."""
    if is_file(capture) and not _is_stream(Path(capture)):
        open_source(capture).close()
    return capture


def _is_stream(path: Path) -> bool:
    """Whether reading a path takes away what the probe would read."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _releasing(out: Output, ended: Callable[[], bool]) -> Callable[[], bool]:
    """The same condition, with held-back events released at every look."""

    def look() -> bool:
        out.release()
        return ended()

    return look


def _summary(stats: dict[str, Any]) -> str:
    if not stats:
        return "no cache in this run"
    image = stats["image"]
    counted = {name: image.get(name, 0) for name in ("messages", "related", "relations", "roots")}
    return ", ".join(f"{value} {name}" for name, value in {**counted, "lost": stats["lost"]["total"]}.items())


def _say(text: str) -> None:
    click.echo(f"dnstrail: {text}", err=True)
