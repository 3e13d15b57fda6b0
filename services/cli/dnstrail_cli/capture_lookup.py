"""Lookups over a capture file alone: no server, no privilege."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dnstrail.captured import Captured
from dnstrail.connection import Connection
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds, Image, LookupResult, Trails
from dnstrail.image.admission import Admission
from dnstrail.image.apply import TOPICS, apply_event
from dnstrail.settings import DnsCache
from dnstrail_cli.timestamps import parse_moment
from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.registry import open_source
from dnstrail_probe.source import CUT_SHORT, DAMAGED, Source

_WAIT = 1.0
_NANOSECONDS = 1_000_000_000
_END = float("inf")
_NOTHING: dict[str, Any] = {"ip_addresses": [], "dns_queries": [], "dns_root": "", "state": ""}


class Replayed:
    """The image of a capture file, up to a moment that moves forward.

    As of `at` it holds the messages before the first one whose stamp is later (DESIGN 5.4).
    """

    def __init__(self, path: str, settings: DnsCache, options: CaptureOptions | None = None) -> None:
        bounds = Bounds(size=settings.size, grace=settings.grace)
        self.image = Image(bounds, Admission(settings.unmatched))
        self._source = open_source(path, options or CaptureOptions())
        self._events = _events(self._source)
        self._next = next(self._events, None)
        self._later: list[tuple[str, Captured]] = []

    @property
    def counters(self) -> Counter[str]:
        """What the reader passed over, by reason."""
        return self._source.counters

    @property
    def damage(self) -> str:
        """How the file ends, if it does not end well."""
        if self.counters[CUT_SHORT]:
            return "cut short at its end; what is whole counts"
        return "damaged; what is whole before that counts" if self.counters[DAMAGED] else ""

    def advance(self, at: float | None) -> None:
        """Apply the events up to `at`, or all of them: what is no message is held back where it came too early."""
        due = _END if at is None else at
        held, self._later = self._later, []
        for topic, event in held:
            self._take(topic, event, due)
        while self._next is not None:
            topic, event = self._next
            if topic == NET_PACKET_DNS and event.timestamp / _NANOSECONDS > due:
                return
            self._take(topic, event, due)
            self._next = next(self._events, None)

    def _take(self, topic: str, event: Captured, due: float) -> None:
        if event.timestamp / _NANOSECONDS > due:
            self._later.append((topic, event))
        else:
            apply_event(self.image, topic, event, live=False)

    def get(self, key: str, at: float | None) -> LookupResult | None:
        """A lookup as of `at`, or of the end; moments must not go back."""
        self.advance(at)
        return self.image.get(key, at=at)

    def trails(self, key: str, connection: Connection, at: float | None) -> Trails | None:
        """The ways to a key as of `at`, or of the end; moments must not go back."""
        self.advance(at)
        return self.image.trails(key, connection, at=at)


def answer_lines(replayed: Replayed, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """For each line `{"key": ..., "at": epoch}` one answer, in order; without "at" it is as of the end."""
    latest = float("-inf")
    for line in lines:
        try:
            key, given, at = _read_line(line, latest)
        except ValueError as error:
            yield {"error": str(error)}
            continue
        latest = _END if at is None else at
        found = replayed.get(key, at)
        shown = _NOTHING if found is None else found.fields
        yield {"key": key, "at": given, "found": found is not None, **{name: shown[name] for name in _NOTHING}}


def _read_line(line: str, latest: float) -> tuple[str, Any, float | None]:
    """The key, `at` as it was given, and `at` in seconds; ValueError says what is wrong with the line."""
    try:
        asked = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    key = asked.get("key") if isinstance(asked, dict) else None
    if not isinstance(key, str):
        raise ValueError('a line is {"key": "...", "at": epoch seconds}')  # noqa: TRY004 - a line's value, not ours
    given = asked.get("at")
    at = parse_moment(given)
    if given is not None and at is None:
        raise ValueError('"at" is neither epoch seconds nor RFC 3339')
    if (_END if at is None else at) < latest:
        raise ValueError("earlier than the line before")
    return key, given, at


def _events(source: Source) -> Iterator[tuple[str, Captured]]:
    try:
        while (captured := source.read(_WAIT)) is not None:
            yield from (event for event in captured if event[0] in TOPICS)
    finally:
        source.close()
