"""Where events go: stdout, one a line, as JSON or as a table, sorted by time if that is asked for."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import Any

import click
import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.clock import Clock
from dnstrail.process.terminal import json_line
from dnstrail_cli.tables import event_line

WINDOW = 0.2  # seconds for which a sorted output holds an event back
_FORMATS = ("json", "table")
_OPTIONS = ("sort-events", "parse-arguments")


class OutputSettings(msgspec.Struct, frozen=True):
    """What all `--output` flags say together."""

    format: str = ""
    sort: bool = False
    parse_arguments: bool = False


def parse_output(values: Iterable[str]) -> OutputSettings:
    """The settings that the values of all `--output` flags make together; the last format wins.

    Raises:
        SettingsError: something that there is not; the text names it.
    """
    settings = OutputSettings()
    for value in (part.strip() for given in values for part in given.split(",")):
        kind, _, option = value.partition(":")
        if value in _FORMATS:
            settings = msgspec.structs.replace(settings, format=value)
        elif kind == "option" and option in _OPTIONS:
            field = "sort" if option == "sort-events" else "parse_arguments"
            settings = msgspec.structs.replace(settings, **{field: True})
        else:
            known = ", ".join((*_FORMATS, *(f"option:{name}" for name in _OPTIONS)))
            raise SettingsError(f"unrecognized output option: {value!r}; known: {known}")
    return settings


class Output:
    """Prints events; sorted, it holds each back for a moment, so that sources may be late by so much."""

    def __init__(self, settings: OutputSettings, clock: Clock, *, terminal: bool) -> None:
        self._as_json = settings.format == "json" or (not settings.format and not terminal)
        self._sort = settings.sort
        self._clock = clock
        self._held: list[tuple[int, int, float, dict[str, Any]]] = []
        self._number = count()

    def emit(self, event: dict[str, Any]) -> None:
        """Take one event."""
        if not self._sort:
            self._print(event)
            return
        heapq.heappush(self._held, (event["timestamp"], next(self._number), self._clock.monotonic() + WINDOW, event))
        self.release()

    def release(self, *, everything: bool = False) -> None:
        """Print what was held back long enough; in the end, everything."""
        while self._held and (everything or self._held[0][2] <= self._clock.monotonic()):
            self._print(heapq.heappop(self._held)[3])

    def _print(self, event: dict[str, Any]) -> None:
        click.echo(json_line(event) if self._as_json else event_line(event))
