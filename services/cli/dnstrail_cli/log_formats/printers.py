"""The printers of `dnstrail log` by the name of their format: each prints entries on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

import click
from rich.console import Console

from dnstrail.events import NET_CONNECTION
from dnstrail.events.facts import connection_line, transaction_line
from dnstrail.history.log.entries import LogEntry, LoggedConnection
from dnstrail.process.terminal import json_line
from dnstrail_cli.events.table import EventTable, table_row
from dnstrail_cli.events.words import line_words
from dnstrail_cli.log_formats import ecs, ocsf, zeek
from dnstrail_cli.log_formats.pairs import PairedQuestions

_SECOND: Final = 1_000_000_000
_Encode = Callable[[Any], str]


class LogPrinter(Protocol):
    """Prints entries. `release` is called regularly with the wall time, and `close` at the end.

    `is_cut` is true for an end by an error or a signal.
    """

    def print(self, entry: LogEntry) -> None:
        """Take an entry."""

    def release(self, now: float) -> None:
        """Print what has waited long enough (epoch seconds)."""

    def close(self, *, is_cut: bool = False) -> None:
        """Print what is left."""


def open_printer(name: str, topic: str, now: float) -> LogPrinter:
    """Return the printer of a format for the entries of a topic. `now` is in epoch seconds."""
    if name == "table":
        return TablePrinter(now)
    if name == "zeek":
        log = zeek.CONN if topic == NET_CONNECTION else zeek.DNS
        return LinePrinter(lambda entry: zeek.tsv_line(log, entry), zeek.header(log, now))
    return LinePrinter(line_encoder(name, topic))


def line_encoder(name: str, topic: str) -> Callable[[Any], str]:
    """Return what encodes an entry of a topic as a line of JSON in a format."""
    encode: dict[str, tuple[_Encode, _Encode]] = {
        "json": (json_line, json_line),
        "zeek-json": (partial(zeek.json_of, zeek.DNS), partial(zeek.json_of, zeek.CONN)),
        "ecs": (ecs.encode_question, ecs.encode_connection),
        "ocsf": (ocsf.encode_question, ocsf.encode_connection),
    }
    return encode[name][topic == NET_CONNECTION]


class LinePrinter:
    """Prints each entry at once as a line, after a header."""

    def __init__(self, encode: _Encode, header: str = "") -> None:
        self._encode = encode
        if header:
            click.echo(header)

    def print(self, entry: LogEntry) -> None:
        """Print an entry."""
        sys.stdout.write(self._encode(entry) + "\n")

    def release(self, now: float) -> None:  # noqa: ARG002 - the contract
        """Write what is buffered."""
        sys.stdout.flush()

    def close(self, *, is_cut: bool = False) -> None:  # noqa: ARG002 - the contract
        """Write what is buffered."""
        sys.stdout.flush()


class TablePrinter:
    """Prints a table in which A and AAAA of one call are one line."""

    def __init__(self, now: float) -> None:
        console = Console(markup=False, highlight=False, emoji=False)
        self._table = EventTable(console, datetime.fromtimestamp(now).astimezone())
        self._pairs = PairedQuestions()

    def print(self, entry: LogEntry) -> None:
        """Take an entry, and print those before it that are complete."""
        self._pairs.add(entry)
        self._print_ready(entry.timestamp)

    def release(self, now: float) -> None:
        """Print what has waited for a second."""
        self._print_ready(int(now * _SECOND))

    def close(self, *, is_cut: bool = False) -> None:  # noqa: ARG002 - the contract
        """Print what is left."""
        self._print_ready(sys.maxsize)

    def _print_ready(self, now: int) -> None:
        for entry in self._pairs.ready(now):
            line = connection_line(entry) if isinstance(entry, LoggedConnection) else transaction_line(entry)
            if isinstance(entry, LoggedConnection) and entry.name:
                line = line._replace(text=f"{line.text}: ", items=(entry.name,))
            name = entry.process_name or entry.src or ""
            self._table.print_row(table_row(entry.timestamp, name, entry.process_id, line_words(line)))
