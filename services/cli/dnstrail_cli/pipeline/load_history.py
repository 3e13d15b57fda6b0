"""`dnstrail history load`: the DNS transactions of captures and dumps, into the history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from io import BufferedReader
from pathlib import Path

import click
import msgspec

from dnstrail.captured import Captured
from dnstrail.errors import SettingsError
from dnstrail.events import EFFECTS
from dnstrail.history.fact import LOADED, MOST_PLACE, Fact, read_id
from dnstrail.history.folder import become_owner, reading_history
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import apply_event
from dnstrail.image.facts.transaction import Transaction
from dnstrail.image.queries import WINDOW
from dnstrail.process.clock import SystemClock
from dnstrail.process.command import examples
from dnstrail.process.log import configure
from dnstrail.process.private_folder import hand_over_private
from dnstrail.protocol.facts import TransactionValues
from dnstrail_cache.facts import captured_of
from dnstrail_cli.pipeline.load_dump import facts_of_dump, is_dump
from dnstrail_cli.progress import ReadProgress, load_bar, position_in
from dnstrail_history.__main__ import command as history
from dnstrail_history.forget import HistoryFolder
from dnstrail_history.store.store import FactStore
from dnstrail_probe.registry import complete_capture, open_source
from dnstrail_probe.source import Source

_EXAMPLES = examples("dnstrail history load monday.pcap image.ndjson", "dnstrail history --folder ./kept load x.pcap")
_ROOTS = 100_000  # of the image, which only admits the answers
_DIGEST = 16  # characters of the digest of a file in the start of its facts
_AT_ONCE = 1024  # events between two looks for transactions that have ended
_FOR_GOOD = float(1 << 40)  # days: a load removes nothing


@history.command(epilog=_EXAMPLES)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), shell_complete=complete_capture
)
@click.pass_obj
def load(chosen: HistoryFolder, files: tuple[str, ...]) -> None:
    """Load the DNS transactions of captures and dumps into the history; the worker must not run.

    A file that was loaded before adds nothing. FILES are pcap, pcapng or dnstap files, or of `dnstrail dump`.
    """
    configure("history", "warning")
    opened = [(file, _start_of(file), _opened(file)) for file in files]
    load_bar()
    if not chosen.path.exists():
        hand_over_private(chosen.path, None, "--folder")
    become_owner(chosen.path)
    clock = SystemClock()
    with reading_history():
        store = FactStore(chosen.path.absolute(), clock, days=_FOR_GOOD, most_bytes=1 << 62)
    with closing(store):
        for file, start, content in opened:
            with reading_history():
                store.note_ids_of(start)
            progress = ReadProgress(file, clock, partial(position_in, file))
            with closing(content), closing(progress):
                stored, repeated = _load(_facts(content, start, progress), store, chosen)
            click.echo(f"{file}: {stored} transactions, {repeated} of them loaded before", err=True)


def _start_of(file: str) -> str:
    """Return the start of the facts of a file, from its digest: the same facts have the same ids each time."""
    with Path(file).open("rb") as content:
        return LOADED + hashlib.file_digest(content, "sha256").hexdigest()[:_DIGEST]


def _opened(file: str) -> Source | BufferedReader:
    return Path(file).open("rb") if is_dump(file) else open_source(file)


def _facts(content: Source | BufferedReader, start: str, progress: ReadProgress) -> Iterator[list[Fact]]:
    """Yield the transactions of a capture or of a dump in parts."""
    if isinstance(content, BufferedReader):
        yield from facts_of_dump(content, start, progress)
    else:
        for transactions in _transactions(content, start, progress):
            yield [*map(_fact_of, transactions)]


def _load(parts: Iterable[list[Fact]], store: FactStore, chosen: HistoryFolder) -> tuple[int, int]:
    """Store transactions, and return their number, and that of those that were stored before."""
    stored, repeated = store.counters["stored"], store.counters["repeated"]
    for facts in parts:
        for fact in facts:
            lost = store.counters["unwritten"]
            if not chosen.excluded.excludes(fact) and not store.add(fact) and store.counters["unwritten"] > lost:
                _commit(store, chosen)  # now there is room
                store.add(fact)
        _commit(store, chosen)
        store.step()
    repeated = store.counters["repeated"] - repeated
    return store.counters["stored"] - stored + repeated, repeated


def _commit(store: FactStore, chosen: HistoryFolder) -> None:
    """Write what waits.

    Raises:
        SettingsError: It cannot be written.
    """
    if not store.commit(store.progress):
        raise SettingsError(f"--folder {chosen.path}: {store.fault}")


def _transactions(source: Source, start: str, progress: ReadProgress) -> Iterator[list[Transaction]]:
    """Yield the transactions of a file in the order of their ends; who got no answer until its end is unanswered."""
    image = Image(Bounds(size=_ROOTS))
    transactions = image.begin_transactions()
    for number, (topic, event) in enumerate(_events(source, progress)):
        batch, place = divmod(number, MOST_PLACE + 1)
        effect = EFFECTS.get(topic, "")
        apply_event(image, effect, event, live=False, batch=f"{start}/{batch}", place=place)
        if number % _AT_ONCE == 0:
            transactions.advance(image.now)
            yield transactions.take()
    more = True
    while more:
        transactions.advance(image.now + 2 * WINDOW)
        ended = transactions.take()
        yield ended
        more = bool(ended)


def _events(source: Source, progress: ReadProgress) -> Iterator[tuple[str, Captured]]:
    while (captured := source.read(1.0)) is not None:
        progress.tick()
        yield from captured


def _fact_of(transaction: Transaction) -> Fact:
    captured = captured_of(transaction)
    values = msgspec.convert(captured.args[""], TransactionValues)
    asked_for = read_id(transaction.asked_for) if transaction.asked_for else None
    ended, host = captured.timestamp, transaction.host
    return Fact(read_id(transaction.id), asked_for, host, ended, captured.process, captured.flow, values)
