"""`dnstrail log`: the DNS transactions of this host, from its history and as they end."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dnstrail.errors import BadMessage, Unavailable
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, OUTCOMES
from dnstrail.pipeline import HISTORY
from dnstrail.process.command import examples, run_dir_option
from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.options import json_option
from dnstrail_cli.lookups.timestamps import convert_moment

if TYPE_CHECKING:
    from dnstrail.history.log.entries import LogEntry
    from dnstrail.history.log.history_log import HistoryLog
    from dnstrail.history.log.selection import LogSelection, Network
    from dnstrail.pipeline.view import Emit, EventView, Item
    from dnstrail.process.clock import Clock
    from dnstrail_cli.log_formats.printers import LogPrinter
    from dnstrail_findings.targets import Target

FORMATS: Final = ("table", "json", "zeek", "zeek-json", "ecs", "ocsf")
_POLL: Final = 0.05  # seconds between looks at the stop signal
_PATIENCE: Final = 10.0  # seconds for the first turn of the facts
_SECOND: Final = 1_000_000_000
_UNITS: Final = {"ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND}
_DURATION: Final = re.compile(r"(\d{1,7}(?:\.\d{1,9})?)(ms|s|m)", re.ASCII)
_EXAMPLES = examples(
    "dnstrail log --since -1h --outcome failed --outcome unanswered",
    "dnstrail log --last 100 --slower 200ms",
    "dnstrail log --since 'yesterday 14:00' --address 203.0.113.0/24 --output zeek > dns.log",
    "dnstrail log --follow --name '*.example.com' --container web --json | jq .name",
)


def _convert_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return a duration in ns."""
    if value is None:
        return None
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration: write 200ms, 1.5s or 2m")
    return round(float(found[1]) * _UNITS[found[2]])


def _convert_network(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Network | None:
    if value is None:
        return None
    from dnstrail.history.log.selection import network_of

    try:
        return network_of(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither an address nor a network") from error


@click.command(epilog=_EXAMPLES)
@click.option("--follow", is_flag=True, help="Print each entry when it ends, until Ctrl-C.")
@click.option("--since", metavar="TIME", callback=convert_moment, help="Only what ended at or after a time, as --at.")
@click.option("--until", metavar="TIME", callback=convert_moment, help="Only what ended at or before a time, as --at.")
@click.option("--last", metavar="N", type=click.IntRange(1, 100_000), help="Only the last N entries that fit.")
@click.option("--name", metavar="GLOB", help="Only questions for such a name, for example '*.example.com'.")
@click.option("--process", metavar="PID|GLOB", help="Only those of this process, by id or name.")
@click.option(
    "--container",
    metavar="ID|GLOB",
    help="Only those of this container, by a prefix of its id, name, image or KEY=LABEL.",
)
@click.option("--unit", metavar="GLOB", help="Only those of this systemd unit or slice; a user's is USER/UNIT.")
@click.option(
    "--outcome", multiple=True, type=click.Choice(OUTCOMES), help="Only questions with this outcome (repeatable)."
)
@click.option(
    "--slower",
    metavar="TIME",
    callback=_convert_duration,
    help="Only questions that waited at least: 200ms, 1.5s, 2m.",
)
@click.option(
    "--address", metavar="CIDR", callback=_convert_network, help="Only answers with such an address: 192.0.2.0/24."
)
@click.option("--connections", is_flag=True, help="Print connections at their end instead.")
@click.option("--output", type=click.Choice(FORMATS), default="table", show_default=True, help="Format of the entries.")
@json_option
@click.option(
    "--to",
    multiple=True,
    metavar="OUTPUT",
    help="Send the entries to an output instead, as JSON; see `dnstrail findings --help` (repeatable).",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=HISTORY,
    show_default=True,
    help="Folder of the history.",
)
@run_dir_option
def log(
    follow: bool,
    since: float | None,
    until: float | None,
    last: int | None,
    name: str | None,
    process: str | None,
    container: str | None,
    unit: str | None,
    outcome: tuple[str, ...],
    slower: int | None,
    address: Network | None,
    connections: bool,
    output: str,
    as_json: bool,
    to: tuple[str, ...],
    folder: Path,
    run_dir: Path,
) -> None:
    """Print DNS transactions: each question of a process or client, with its end.

    The command reads the files of `dnstrail history` as their user or as root, in the order of storing. With --follow
    it prints what ends from now on, and with --since or --last first what is kept. A question that nobody answers ends
    after 30 seconds. The table has one line for A and AAAA of one call.
    """
    from dnstrail.history.log.selection import LogSelection, first_time, last_time
    from dnstrail.process.clock import SystemClock
    from dnstrail.process.log import configure
    from dnstrail.process.signals import stop_on_signals
    from dnstrail_cli.log_formats.printers import open_printer

    is_past = not follow or since is not None or last is not None
    of_questions = bool(outcome) or slower is not None
    _check_usage(
        follow=follow,
        since=since,
        until=until,
        connections=connections,
        of_questions=of_questions,
        as_json=as_json,
        output=output,
    )
    configure("dnstrail", "warning")
    times = first_time(since), last_time(until)
    selection = LogSelection(*times, name, process, container, outcome, slower, address, unit)
    clock, topic = SystemClock(), NET_CONNECTION if connections else DNS_TRANSACTION
    name = "json" if as_json or (to and output == "table") else output
    targets = _parse_outputs(to, name)  # their tokens are read before this process becomes the owner of the history
    history = _open_history(folder, topic) if is_past else None
    printer = _open_outputs(targets, name, topic) if targets else open_printer(name, topic, clock.wall())
    with _closing(printer, is_cut=follow):  # a signal ends `--follow`
        if history is not None:
            _print_past(history, selection, printer, clock, last)
        if follow:
            _follow(run_dir, clock, stop_on_signals().is_set, topic, selection, printer, history)


def _check_usage(
    *,
    follow: bool,
    since: float | None,
    until: float | None,
    connections: bool,
    of_questions: bool,
    as_json: bool,
    output: str,
) -> None:
    """Refuse options that exclude each other.

    Raises:
        UsageError: click exits with 2.
    """
    if follow and until is not None:
        raise click.UsageError("--until goes without --follow")
    if since is not None and until is not None and since > until:
        raise click.UsageError("--since is after --until")
    if as_json and output not in {"table", "json"}:
        raise click.UsageError(f"--json goes without --output {output}")
    if connections and of_questions:
        raise click.UsageError("--connections goes without --outcome and --slower")


def _parse_outputs(to: tuple[str, ...], name: str) -> list[Target]:
    """Return the outputs.

    Raises:
        SettingsError: One cannot be used.
    """
    if not to:
        return []
    from dnstrail_cli.log_formats.outputs import parse_outputs

    return parse_outputs(to, name)


def _open_outputs(targets: list[Target], name: str, topic: str) -> LogPrinter:
    """Return the printer to outputs. From now on SIGTERM raises KeyboardInterrupt, so that the printer is closed.

    Raises:
        SettingsError: One cannot be used.
    """
    from dnstrail_cli.log_formats.outputs import open_outputs

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return open_outputs(targets, name, topic)


@contextmanager
def _closing(printer: LogPrinter, *, is_cut: bool) -> Iterator[None]:
    """Close a printer at the end. An error before the end counts more than one of the printer."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            printer.close(is_cut=True)
        raise
    printer.close(is_cut=is_cut)


def _open_history(folder: Path, topic: str) -> HistoryLog:
    """Return the log of a folder. Root becomes the owner of the folder, who may have made the files in it.

    Raises:
        SettingsError: It cannot be read.
    """
    from dnstrail.history.folder import become_owner, check_folder
    from dnstrail.history.log import handover  # noqa: F401 - the owner may not be able to read the modules
    from dnstrail.history.log.history_log import HistoryLog
    from dnstrail_cli.progress import load_bar

    check_folder(folder)
    load_bar()
    become_owner(folder)
    return HistoryLog(folder, _warn, topic)


def _warn(text: str) -> None:
    click.echo(f"dnstrail: {escape_unprintable(text)}", err=True)


def _print_past(
    history: HistoryLog, selection: LogSelection, printer: LogPrinter, clock: Clock, last: int | None
) -> None:
    """Print what is stored.

    Raises:
        SettingsError: It cannot be read.
    """
    from dnstrail.history.folder import reading
    from dnstrail_cli.progress import ReadProgress

    read = partial(history.read, selection) if last is None else partial(history.newest, selection, last)
    progress = ReadProgress("history", clock, lambda: history.position, size=lambda: history.size)
    progress.pause_on_terminal()
    with closing(progress):
        for entry in reading(read):
            progress.tick()
            printer.print(entry)


def _follow(
    run_dir: Path,
    clock: Clock,
    stopped: Callable[[], bool],
    topic: str,
    selection: LogSelection,
    printer: LogPrinter,
    history: HistoryLog | None,
) -> None:
    """Print the entries of a topic as they end, those after what was read from the history."""
    from dnstrail.history.log.handover import Handover

    handover = Handover(history, selection, printer.print, _warn) if history is not None else None

    def show(entry: LogEntry) -> None:
        if handover is not None:
            handover.add(entry, clock.monotonic())
        elif selection.accepts(entry):
            printer.print(entry)

    with follow_facts(topic, run_dir, clock, stopped, _passing(show)) as view:
        while not stopped():
            view.wait(_POLL)
            view.take(clock)
            if handover is not None:
                handover.step(clock.monotonic())
            printer.release(clock.wall())


@contextmanager
def follow_facts(
    topic: str, run_dir: Path, clock: Clock, stopped: Callable[[], bool], emit: Emit
) -> Iterator[EventView]:
    """Yield a view that passes on the facts of a running service, once its cache publishes them.

    Raises:
        Unavailable: no cache answers, or it publishes no facts.
    """
    from dnstrail.bus import ZmqBus
    from dnstrail.bus.ipc import lookups_address
    from dnstrail.client import LookupClient
    from dnstrail.pipeline.view import EventView

    with closing(LookupClient(lookups_address(run_dir))) as client:
        client.request("health")  # an absent or untrusted cache is refused
    bus = ZmqBus()
    with (
        closing(bus),
        closing(EventView(run_dir, (topic,), (), bus, _once(emit), cache=True, take_findings=False)) as view,
    ):
        _await_facts(view, clock, run_dir, stopped)
        yield view


def _await_facts(view: EventView, clock: Clock, run_dir: Path, stopped: Callable[[], bool]) -> None:
    """Wait until the cache publishes facts.

    Raises:
        Unavailable: it does not.
    """
    from dnstrail.bus.ipc import facts_address, lookups_address

    deadline = clock.monotonic() + _PATIENCE
    while not view.hears_facts and not stopped():
        if clock.monotonic() > deadline:
            address = facts_address(lookups_address(run_dir))
            raise Unavailable(address, _PATIENCE, "absent", "the cache publishes no facts here: see its --facts")
        view.wait(_POLL)
        view.take(clock)
    click.echo("dnstrail: ready", err=True)


def _once(emit: Emit) -> Emit:
    """Return a function that passes each fact on once: a cache that restarts publishes the last ones again."""
    from dnstrail.events import Event
    from dnstrail.history.fact import read_id
    from dnstrail.history.known_ids import KnownIds

    known = KnownIds()

    def once(item: Item) -> None:
        if isinstance(item, Event):
            identity, _, stage = item.id.rpartition("/")
            with suppress(BadMessage):  # no cache of ours sends it
                if known.add(read_id(identity), stage):
                    emit(item)

    return once


def _passing(take: Callable[[LogEntry], None]) -> Emit:
    """Return a function that passes the entries of facts on."""
    from dnstrail.events import Event
    from dnstrail.history.log.entries import LoggedConnection, LoggedQuestion, read_entry

    def emit(item: Item) -> None:
        with suppress(BadMessage):  # no cache of ours sends it
            if isinstance(item, Event):
                take(read_entry(item, LoggedConnection if item.event_name == NET_CONNECTION else LoggedQuestion))

    return emit
