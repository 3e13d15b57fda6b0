"""`dnstrail enrich`: the events of other tools, with the names of their connections."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from dnstrail.capture_options import STDIN
from dnstrail.errors import SettingsError
from dnstrail.process.command import NO_CACHE, check_number, examples, run_dir_option
from dnstrail.process.terminal import escape_unprintable
from dnstrail_cli.lookups.options import cache_option

if TYPE_CHECKING:
    from dnstrail_cli.enrich.enricher import Enricher
    from dnstrail_cli.enrich.lines import LineReader

_POLL: Final = 0.5  # seconds between looks at the stop signal
_EXAMPLES = examples(
    "falco -o json_output=true | dnstrail enrich",
    "tail -F /var/log/suricata/eve.json | dnstrail enrich | jq -c 'select(.dnstrail)'",
    "dnstrail enrich conn.log > conn-named.log",
    "dnstrail enrich --map address=dst.ip --map time=when events.ndjson",
)


@click.command(epilog=_EXAMPLES)
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--map",
    "paths",
    multiple=True,
    metavar="FIELD=PATH",
    help="Where events of any tool have the address, port, client, source_port, process, container or time.",
)
@click.option(
    "--wait",
    "patience",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    callback=check_number,
    default=10,
    show_default=True,
    help="How long lines wait for a cache that is away.",
)
@cache_option
@run_dir_option
@click.pass_context
def enrich(
    ctx: click.Context,
    files: tuple[str, ...],
    paths: tuple[str, ...],
    patience: float,
    cache: str | None,
    run_dir: Path,
) -> None:
    """Add the names of connections to JSON lines of other tools.

    Reads events of Falco, Tetragon, Suricata, Zeek and tracee from files or stdin, and writes the same lines in their
    order, with `destination.domain` and `dnstrail` at the end of each object, as of the time of the event. All other
    lines pass as they are. Exit codes: 0 ok, 2 wrong usage, 3 no cache answered for some lines.
    """
    from dnstrail.bus.ipc import lookups_address
    from dnstrail.client import LookupClient
    from dnstrail.process.signals import stop_on_signals
    from dnstrail_cli.enrich.asking import TrailAsker
    from dnstrail_cli.enrich.enricher import UNASKED, Enricher
    from dnstrail_cli.enrich.formats import read_event
    from dnstrail_cli.enrich.lines import LineReader
    from dnstrail_cli.enrich.mapping import reader_of

    read = reader_of(paths) if paths else read_event
    with ExitStack() as opened:
        reader = LineReader([_open(file, opened) for file in files or (STDIN,)])
        client = opened.enter_context(closing(LookupClient(cache or lookups_address(run_dir))))
        stopped = stop_on_signals().is_set
        asker = TrailAsker(client, patience, _report, stopped)
        enricher = Enricher(read, asker.ask, monotonic, time)
        _pump(reader, enricher, sys.stdout.buffer, stopped)
    _report(", ".join(f"{count} {name}" for name, count in enricher.counts.items()))
    if enricher.counts[UNASKED]:
        ctx.exit(NO_CACHE)


def _open(file: str, opened: ExitStack) -> int:
    """Return the descriptor of a file, or of stdin."""
    if file == STDIN:
        return sys.stdin.fileno()
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    opened.callback(os.close, descriptor)
    return descriptor


def _pump(reader: LineReader, enricher: Enricher, output: BinaryIO, stopped: Callable[[], bool]) -> None:
    """Pass lines on until they end, or the stop signal is set: then those that wait leave at once."""
    while not (reader.ended and enricher.due is None) and not stopped():
        due = _POLL if enricher.due is None else min(enricher.due, _POLL)
        if enricher.full or reader.ended:
            sleep(due)
        else:
            enricher.add(reader.read(due))
        _write(enricher, output)
    _write(enricher, output, at_once=True)


def _write(enricher: Enricher, output: BinaryIO, *, at_once: bool = False) -> None:
    """Write the lines that may leave."""
    while lines := enricher.take(at_once=at_once):
        output.write(lines)
    output.flush()


def _report(text: str) -> None:
    click.echo(f"dnstrail: {escape_unprintable(text)}", err=True)
