"""Lookups over a capture file, whose image is built up to the time of each lookup."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured
from dnstrail.connection import Connection
from dnstrail.events import EFFECTS, NET_PACKET_DNS
from dnstrail.image import Bounds, Image, LookupResult, Trails
from dnstrail.image.apply import apply_event
from dnstrail.image.bounds import SECOND
from dnstrail.process.clock import nanoseconds
from dnstrail.settings import DnsCache
from dnstrail_cli.lookups.timestamps import parse_moment
from dnstrail_probe.registry import open_source
from dnstrail_probe.source import CUT_SHORT, DAMAGED, Source

_WAIT = 1.0
_END = float("inf")
_LAST = 1 << 63  # ns; every event precedes it
_DAMAGE = {
    "": "",
    CUT_SHORT: "cut short at its end; everything before counts",
    DAMAGED: "damaged; everything before the damage counts",
}
_NOTHING: dict[str, Any] = {"ip_addresses": [], "dns_queries": [], "dns_root": "", "state": ""}


class CaptureLookup:
    """The image of a capture file as of a time that only moves forward.

    As of `at` the image holds the messages before the first DNS message with a later stamp, and what
    else stands before it with a stamp up to `at`. A connection or server name with a later stamp is dropped: the lines
    of `answer_lines` need none, and all other lookups have one time. `on_read` is called after each step of reading.
    """

    def __init__(
        self,
        path: str,
        settings: DnsCache,
        options: CaptureOptions,
        on_read: Callable[[], None],
    ) -> None:
        bounds = Bounds(
            size=settings.size, grace=settings.grace, history=settings.history, relations=settings.relations
        )
        self._image = Image(bounds, settings.unmatched)
        self._source = open_source(path, options)
        self._events = _events(self._source, on_read)
        self._read = [*islice(self._events, 1)]  # read, but neither applied nor dropped: one event at most

    @property
    def damage(self) -> str:
        """The damage of the file in words, or ""."""
        return _DAMAGE[self._source.damage]

    def advance(self, at: float | None) -> None:
        """Apply the events up to `at`, or all of them; a DNS message with a later stamp waits until its time."""
        due = _due(at)
        read, self._read = self._read, []
        for topic, event in chain(read, self._events):
            if event.timestamp <= due:
                apply_event(self._image, EFFECTS.get(topic, ""), event, live=False)
            elif topic == NET_PACKET_DNS:
                self._read = [(topic, event)]
                return

    def get(self, key: str, at: float | None, connection: Connection | None = None) -> LookupResult | None:
        """Return the result of a lookup as of `at`, or of the end; times must not go back."""
        self.advance(at)
        return self._image.get(key, at=None if at is None else _due(at), connection=connection)

    def trails(self, key: str, connection: Connection, at: float | None) -> Trails | None:
        """Return the trails of a key as of `at`, or of the end; times must not go back."""
        self.advance(at)
        return self._image.trails(key, connection, at=None if at is None else _due(at))

    def remembers(self, at: float | None) -> bool:
        """Return whether the image still holds everything that was live at `at`."""
        return at is None or self._image.remembers(_due(at))

    def asked(self, key: str, at: float | None) -> dict[str, Any] | None:
        """Return the last question for a key that brought no data as of `at`, or of the end; None without one."""
        failure = self._image.failed(key, None if at is None else _due(at))
        return None if failure is None else dict(msgspec.to_builtins(failure.shown(failure.stamp / SECOND)))

    def close(self) -> None:
        """Close the file."""
        self._events.close()


def _due(at: float | None) -> int:
    return _LAST if at is None else nanoseconds(at)


def answer_lines(lookup: CaptureLookup, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield one answer for each line `{"key": ..., "at": epoch}`, in order; without "at" it is as of the end."""
    latest = float("-inf")
    for line in lines:
        try:
            key, given, at = _read_line(line, latest)
        except ValueError as error:
            yield {"error": str(error)}
            continue
        latest = _END if at is None else at
        found = lookup.get(key, at)
        shown = _NOTHING if found is None else found.fields
        yield {"key": key, "at": given, "found": found is not None, **{name: shown[name] for name in _NOTHING}}


def _read_line(line: str, latest: float) -> tuple[str, Any, float | None]:
    """Return the key, `at` as it was given, and `at` in seconds.

    Raises:
        ValueError: the line cannot be answered; the text is the error for its place.
    """
    try:
        asked = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    key = asked.get("key") if isinstance(asked, dict) else None
    if not isinstance(key, str):
        raise ValueError('a line is {"key": "...", "at": epoch seconds}')  # noqa: TRY004 - the value is wrong, not our type
    given = asked.get("at")
    at = parse_moment(given)
    if given is not None and at is None:
        raise ValueError('"at" is neither epoch seconds nor RFC 3339')
    if (_END if at is None else at) < latest:
        raise ValueError("earlier than the line before")
    return key, given, at


def _events(source: Source, on_read: Callable[[], None]) -> Generator[tuple[str, Captured]]:
    try:
        while (captured := source.read(_WAIT)) is not None:
            on_read()
            yield from captured
    finally:
        source.close()
