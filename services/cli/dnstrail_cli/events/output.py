"""The output of a run: events and findings on stdout, as JSON lines or as a table."""

from __future__ import annotations

import heapq
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

import click
import msgspec

from dnstrail.errors import BadMessage, SettingsError
from dnstrail.events import Event
from dnstrail.pipeline.view import Emit, Item
from dnstrail.process.clock import Clock
from dnstrail.process.terminal import json_line
from dnstrail.tracee.event_shape import event_map
from dnstrail_cli.events.sightings import MALFORMED, ClientSightings

#: seconds for which `option:sort-events` waits for an earlier event -> an event that comes later is printed out of
#: order
WINDOW = 0.2  # so that an earlier event can overtake it


class OutputSettings(msgspec.Struct, frozen=True):
    """The choices that all `--output` flags make together; without a format a terminal gets the table."""

    format: str = ""
    every_sighting: bool = False
    sort: bool = False
    parse_arguments: bool = False


_CHOICES: dict[str, dict[str, Any]] = {
    "json": {"format": "json"},
    "table": {"format": "table", "every_sighting": False},
    "table=all": {"format": "table", "every_sighting": True},
    "option:sort-events": {"sort": True},
    "option:parse-arguments": {"parse_arguments": True},
}


def parse_output(values: Iterable[str]) -> OutputSettings:
    """Return the settings that the values of all `--output` flags make together; the last format wins.

    Raises:
        SettingsError: a choice is unknown; the text names it.
    """
    settings = OutputSettings()
    for value in (part.strip() for given in values for part in given.split(",")):
        if value not in _CHOICES:
            raise SettingsError(f"unrecognized output option: {value!r}; known: {', '.join(_CHOICES)}")
        settings = msgspec.structs.replace(settings, **_CHOICES[value])
    return settings


def print_json(item: Item, shape: Callable[[Event], object]) -> None:
    """Print an event in a shape as a JSON object on one line; a finding has its shape already.

    Raises:
        BadMessage: no worker of ours sends such an item.
    """
    try:
        line = json_line(shape(item) if isinstance(item, Event) else item)
    except MALFORMED as error:
        raise BadMessage(repr(error)) from error
    click.echo(line)


class EventOutput:
    """Takes events and findings through the stages that the settings name, and prints them by `show`.

    A caller that uses stages calls `release` regularly: time alone moves an item on.
    """

    def __init__(self, show: Emit, clock: Clock, *, once: bool = False, sort: bool = False) -> None:
        self.shown = 0
        self._show = show
        self._clock = clock
        self._stages: list[ClientSightings | SortWindow] = [
            *([ClientSightings()] if once else []),
            *([SortWindow()] if sort else []),
        ]

    def emit(self, item: Item) -> None:
        """Take an event, or a finding in tracee's shape."""
        self._forward(item, 0)
        self.release()

    def release(self, *, everything: bool = False) -> None:
        """Print the items that have waited long enough; at the end of a run, all of them."""
        for place, stage in enumerate(self._stages):
            for item in stage.ready(self._clock.monotonic(), everything=everything):
                self._forward(item, place + 1)

    def _forward(self, item: Item, place: int) -> None:
        """Give an item to a stage, or print it after the last stage."""
        if place < len(self._stages):
            self._stages[place].add(item, self._clock.monotonic())
            return
        try:
            self._show(item)
        except BadMessage:
            return  # as for a bad batch
        self.shown += 1


def open_output(settings: OutputSettings, clock: Clock) -> EventOutput:
    """Return the output that the settings choose, on stdout."""
    if settings.format == "json" or (not settings.format and not sys.stdout.isatty()):
        shape = partial(event_map, parse_arguments=settings.parse_arguments)
        return EventOutput(partial(print_json, shape=shape), clock, sort=settings.sort)
    from rich.console import Console

    from dnstrail_cli.events.table import EventTable

    console = Console(markup=False, highlight=False, emoji=False)
    table = EventTable(console, datetime.fromtimestamp(clock.wall()).astimezone())
    return EventOutput(table.print, clock, once=not settings.every_sighting, sort=settings.sort)


class SortWindow:
    """Holds each item back for WINDOW at most, and passes items on in the order of their stamps."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, Item]] = []
        self._number = count()
        self._due: OrderedDict[int, float] = OrderedDict()  # by the numbers of what is held, in the order of arrival

    def add(self, item: Item, now: float) -> None:
        """Take an event or a finding; `now` is monotonic, in seconds."""
        stamp = item.timestamp if isinstance(item, Event) else item["timestamp"]
        number = next(self._number)
        heapq.heappush(self._held, (stamp, number, item))
        self._due[number] = now + WINDOW

    def ready(self, now: float, *, everything: bool = False) -> Iterator[Item]:
        """Yield the items that were held back long enough, each after those with older stamps."""
        while self._due and (everything or next(iter(self._due.values())) <= now):
            _, number, item = heapq.heappop(self._held)
            del self._due[number]
            yield item
