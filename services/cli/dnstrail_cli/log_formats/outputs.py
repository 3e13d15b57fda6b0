"""The outputs of `dnstrail log --to`: each entry goes to all of them as one line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click

from dnstrail.errors import SettingsError
from dnstrail.history.log.entries import LogEntry
from dnstrail.process.command import CANNOT_SERVE
from dnstrail_cli.log_formats.printers import line_encoder
from dnstrail_findings.finding import LineSource
from dnstrail_findings.output import Output, check_outputs, close_outputs
from dnstrail_findings.targets import FactLines, Target, make_outputs, parse_target, try_places

_FORMATS: Final = {"json": "tracee", "zeek-json": "tracee", "ecs": "ecs", "ocsf": "ocsf"}  # as a receiver sees them
_PAUSE: Final = 0.01  # seconds
#: seconds without an entry that leaves an output at the end of `dnstrail log` -> entries that wait outside a spool are
#: lost
STALLED: Final = 15.0  # longer than two attempts that fail, and the rests after them


class OutputsPrinter:
    """Sends each entry to all outputs. Before the first `release` entries are of the past: they wait for slow ones.

    The end waits for them, too, until the outputs have all entries, or none leaves for STALLED seconds.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._is_past = True
        self._outputs = outputs
        for output in outputs:
            output.start()

    def print(self, entry: LogEntry) -> None:
        """Send an entry."""
        for output in self._outputs:
            while self._is_past and output.is_half_full and output.error is None and not output.ended:
                time.sleep(_PAUSE)
            output.add(entry)

    def release(self, now: float) -> None:  # noqa: ARG002 - the contract
        """Raise the error that ended an output.

        Raises:
            Exception: It is a fault of dnstrail.
        """
        self._is_past = False
        check_outputs(self._outputs)

    def close(self, *, is_cut: bool = False) -> None:
        """Send what is left, and state what was lost, or waits in a spool.

        After an error or a signal, wait for no slow output.

        Raises:
            Exit: Entries were lost; click exits with CANNOT_SERVE.
            Exception: It is a fault of dnstrail.
        """
        try:
            if not is_cut:
                self._await_past()
        finally:
            close_outputs(self._outputs)
            check_outputs(self._outputs)
            for output in self._outputs:
                if output.lost:
                    click.echo(f"dnstrail: {output.name}: {output.lost} entries were lost", err=True)
                if kept := output.waiting - output.counters["unsent"]:
                    click.echo(f"dnstrail: {output.name}: {kept} entries wait in the spool for the next run", err=True)
        if any(output.lost for output in self._outputs):
            raise click.exceptions.Exit(CANNOT_SERVE)

    def _await_past(self) -> None:
        before, end = 0, 0.0
        while waiting := sum(one.waiting for one in self._outputs if one.error is None and not one.ended):
            now = time.monotonic()
            if waiting != before:
                before, end = waiting, now + STALLED
            elif now >= end:
                return
            time.sleep(_PAUSE)


def parse_outputs(to: Sequence[str], name: str) -> list[Target]:
    """Return the outputs of entries in a format.

    Raises:
        SettingsError: One names no output, or the format is none of JSON.
    """
    if name not in _FORMATS:
        raise SettingsError(f"--to: write --output {', '.join(_FORMATS)}")
    return [parse_target(one) for one in to]


def open_outputs(targets: Sequence[Target], name: str, topic: str) -> OutputsPrinter:
    """Return the printer of the entries of a topic, in a format, to outputs.

    Raises:
        SettingsError: An output cannot be used, or does not take this format.
    """
    encode = line_encoder(name, topic)
    lines = FactLines(_FORMATS[name], lambda entry: encode(entry).encode(), _source)
    outputs = make_outputs(targets, lines)
    try_places(targets)
    return OutputsPrinter(outputs)


def _source(entry: LogEntry) -> LineSource:
    return LineSource(entry.id, entry.timestamp, entry.event_name, entry.host)
