"""A run of the whole pipeline in the foreground: `dnstrail` itself, and `dnstrail replay`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dnstrail.bus import ZmqBus
from dnstrail.capture_options import options_of
from dnstrail.errors import SettingsError
from dnstrail.events import FACT_NAMES
from dnstrail.kernel.capabilities import missing_capabilities
from dnstrail.pipeline import HISTORY, is_empty
from dnstrail.pipeline.pipeline import Pipeline, Plan, run_folder, running
from dnstrail.process.clock import Clock, SystemClock
from dnstrail.process.command import NONE
from dnstrail.process.config_file import find_config
from dnstrail.process.log import configure
from dnstrail.process.private_folder import hand_over_private
from dnstrail.process.privileges import calling_user
from dnstrail.process.signals import stop_on_signals
from dnstrail.settings import parse_dnscache
from dnstrail.users import User
from dnstrail_cli.events.output import EventOutput, open_output, parse_output
from dnstrail_cli.pipeline.options import PipelineRun
from dnstrail_cli.pipeline.selection import select, signature_names
from dnstrail_cli.progress import ReadProgress, load_bar, position_in
from dnstrail_probe.registry import is_file, is_live, open_source

# The cache is ahead of the signatures, and must still hold what they look up.
_SIZE_FOR_FILES = "size=100000,relations=400000"


def play(run: PipelineRun) -> None:
    """Run the pipeline until its source ends (`stay`: then keep answering), or a signal stops it."""
    configure("dnstrail", "warning")
    clock = SystemClock()
    output = open_output(parse_output(run.output), clock)
    user = calling_user()
    with run_folder(run.run_dir, user) as run_dir:
        plan = make_plan(run, run_dir, user, clock)
        stop = stop_on_signals()
        load_bar()
        bus = ZmqBus()
        try:
            with running(plan, bus, output.emit, clock) as pipeline, _released(output):
                _show_events(pipeline, output, stop)
                if pipeline.ended:
                    _show_end(pipeline, output, stop)
                if pipeline.ended and run.stay:
                    _say(f"still answering lookups (dnstrail get ... --run-dir {run_dir}); Ctrl-C ends it")
                    pipeline.work(stop, lambda: False)
        finally:
            bus.close()


def make_plan(run: PipelineRun, run_dir: Path, user: User | None, clock: Clock) -> Plan:
    """Check the command line, and return the plan of its workers.

    Raises:
        SettingsError: an option has a wrong value.
        CaptureError: the capture file is missing, or is no capture.
    """
    settings = parse_dnscache(run.dnscache)
    found = signature_names(run.signatures, user, clock, run.config)
    selection = select(run.events, found.names, found.enabled)
    _check_outputs(run.to, selection.findings)
    if not settings.enabled and (facts := set(selection.events).intersection(FACT_NAMES)):
        raise SettingsError(
            f"--events {', '.join(facts)}: the cache publishes it, and --dnscache none disables the cache"
        )
    if run.web is not None and not settings.enabled:
        raise SettingsError("--web: the page asks the cache, and --dnscache none disables it")
    if is_file(run.capture) and not _is_stream(Path(run.capture)):
        open_source(run.capture).close()  # refused here, before any worker starts
    return Plan(
        run_dir,
        run.capture,
        history=_history_folder(run, user, cache=settings.enabled),
        cache=settings.enabled,
        dnscache=_dnscache_for_file(run) if is_file(run.capture) else run.dnscache,
        signatures=run.signatures,
        findings=selection.findings,
        named=bool(run.events),
        events=selection.events,
        speed=run.speed,
        options=options_of(run.options),
        user=user,
        memory=run.memory,
        probes=run.probes,
        web=run.web,
        config=run.config,
        to=run.to,
    )


def _history_folder(run: PipelineRun, user: User | None, *, cache: bool) -> Path | None:
    """Return the folder of the history, which belongs to this user from now on; None: nothing is kept.

    Raises:
        SettingsError: the folder that an option names cannot be used.
    """
    given = run.history
    if given == NONE or (given is None and not (cache and is_live(run.capture) and _may_capture())):
        return None
    if not cache:
        raise SettingsError(
            "--history-folder: the cache publishes what is kept, and --dnscache none disables the cache"
        )
    if not is_live(run.capture):
        raise SettingsError("--history-folder: a run keeps what a live source captures: `dnstrail history load FILE`")
    folder = HISTORY if given is None else Path(given).absolute()
    try:
        hand_over_private(folder, user, "--history-folder")
    except SettingsError as error:
        if given is not None:
            raise
        _say(f"no history is kept: {error}")
        return None
    if is_empty(folder):
        days = find_config(run.config).table("history").get("days", 7)
        _say(f"names that this host looks up are kept in {folder}: for {days} days, and for a year by program and user")
        _say("`dnstrail history --exclude` leaves out what you name; --history-folder none keeps nothing")
    return folder


def _may_capture() -> bool:
    """Return whether this is root, who can open a live source: without one, `auto` plays the bundled capture."""
    return os.geteuid() == 0 and not all(map(missing_capabilities, ("CAP_NET_RAW", "CAP_BPF")))


def _dnscache_for_file(run: PipelineRun) -> tuple[str, ...]:
    """Return the settings of the cache of a file, which has a size of its own unless one is given."""
    given = run.dnscache or find_config(run.config).table("cache").get("dnscache", ())
    values = (given,) if isinstance(given, str) else tuple(given)
    names = {option.strip().partition("=")[0] for value in values for option in value.split(",")}
    return values if "size" in names else (_SIZE_FOR_FILES, *values)


def _check_outputs(to: tuple[str, ...], findings: tuple[str, ...]) -> None:
    """Refuse outputs that the worker of findings would refuse, or that would receive nothing."""
    if not to:
        return
    from dnstrail_findings.targets import parse_target

    if any(parse_target(output).kind == "stdout" for output in to):
        raise SettingsError("--to stdout: the run itself prints its findings")
    if not findings:
        raise SettingsError("--to: --events names no signature, so that there are no findings")


@contextmanager
def _released(output: EventOutput) -> Iterator[None]:
    """Print at the end of the block all that the output holds back, also if a worker has died."""
    try:
        yield
    finally:
        output.release(everything=True)


def _show_events(pipeline: Pipeline, output: EventOutput, stop: threading.Event) -> None:
    """Show events until the source ends or the stop signal is set."""
    pipeline.work(stop, lambda: pipeline.started)
    if pipeline.started:
        _say("ready")
    with _progress(pipeline) as tick:

        def ended() -> bool:
            output.release()
            tick()
            return pipeline.ended

        pipeline.work(stop, ended)


@contextmanager
def _progress(pipeline: Pipeline) -> Iterator[Callable[[], None]]:
    """Yield a function that shows how far the probe has read its file; a live source has no progress."""
    capture = pipeline.plan.capture
    if not is_file(capture):
        yield lambda: None
        return
    probe = pipeline.children.process_id("probe")
    progress = ReadProgress(capture, SystemClock(), lambda: position_in(capture, probe or "self"))
    progress.pause_on_terminal()
    try:
        yield progress.tick
    finally:
        progress.close()


def _show_end(pipeline: Pipeline, output: EventOutput, stop: threading.Event) -> None:
    """Show the last findings, and a summary, once the cache has applied everything."""
    stats = pipeline.stats(stop)
    pipeline.take_last(stats)
    output.release(everything=True)
    _say(f"the capture has ended: {_summary(stats)}; {output.shown} events shown")


def _is_stream(path: Path) -> bool:
    """Return whether a path can be read only once, and so by the probe alone."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _summary(stats: dict[str, Any]) -> str:
    if not stats:
        return "no cache answered"
    image = stats["image"]
    counted = {name: image.get(name, 0) for name in ("messages", "related", "relations", "roots")}
    return ", ".join(f"{value} {name}" for name, value in {**counted, "lost": stats["lost"]["total"]}.items())


def _say(text: str) -> None:
    click.echo(f"dnstrail: {text}", err=True)
