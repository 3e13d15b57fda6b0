"""Lookups over a capture file alone, whose image is built up to the time of each lookup."""

from __future__ import annotations

import gc
import json
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from types import FrameType
from typing import Any

import click
import msgspec

from dnstrail.capture_options import STDIN_PATH, CaptureOptions
from dnstrail.captured import Captured
from dnstrail.connection import Connection
from dnstrail.errors import DataNotFound
from dnstrail.events import EFFECTS, NET_PACKET_DNS
from dnstrail.image import Bounds, Image, LookupResult, Trails
from dnstrail.image.apply import apply_event
from dnstrail.image.bounds import SECOND
from dnstrail.process.clock import SystemClock, nanoseconds, parse_moment
from dnstrail.settings import DnsCache, parse_dnscache
from dnstrail_cli.progress import ReadProgress, position_in
from dnstrail_probe.registry import open_source
from dnstrail_probe.source import CUT_SHORT, DAMAGED, Source

_COLLECT = 100_000  # objects between two collections: an image makes no reference cycles, and a stream may never end
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


class CaptureBackend:
    """Lookups over a capture file alone: no server, no privilege. The process rarely collects garbage.

    A file that ends badly still answers, with a warning on stderr.
    """

    def __init__(self, path: str, dnscache: Iterable[str], options: CaptureOptions) -> None:
        settings = parse_dnscache(dnscache)
        if path == STDIN_PATH:
            _leave_first_interrupt_to_writer()
        gc.freeze()  # no collection looks at the modules
        gc.set_threshold(_COLLECT)
        self._progress = ReadProgress(path, SystemClock(), lambda: position_in(path))
        self._lookup = CaptureLookup(path, settings, options, self._progress.tick)

    def get(self, keys: Sequence[str], at: float | None, connection: Connection) -> list[dict[str, Any] | DataNotFound]:
        """Return the data of each key as of `at`, or of the end."""
        found = [self._lookup.get(key, at, connection) for key in keys]
        answers = [self._missing(key, at) if one is None else one.fields for key, one in zip(keys, found, strict=True)]
        self._finish()
        return answers

    def trail(self, key: str, connection: Connection, at: float | None) -> dict[str, Any] | DataNotFound:
        """Return the trails of a key as of `at`, or of the end."""
        found = self._lookup.trails(key, connection, at)
        answer = self._missing(key, at) if found is None else dict(msgspec.to_builtins(found))
        self._finish()
        return answer

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield one answer for each line, in order."""
        self._progress.pause_on_terminal()
        yield from answer_lines(self._lookup, lines)
        self._finish()

    def close(self) -> None:
        """Close the file."""
        self._progress.close()
        self._lookup.close()
        gc.freeze()  # the process ends, and its last collection would find nothing

    def _missing(self, key: str, at: float | None) -> DataNotFound:
        return DataNotFound(key, history=self._lookup.remembers(at), asked=self._lookup.asked(key, at))

    def _finish(self) -> None:
        """Read to the end of the file, and warn if it did not end well."""
        self._lookup.advance(None)
        self._progress.close()
        if self._lookup.damage:
            click.echo(f"warning: the capture is {self._lookup.damage}", err=True)


def _leave_first_interrupt_to_writer() -> None:
    """Go on after the first Ctrl-C: it also reaches the writer of the pipe, which then ends the capture."""

    def first(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.default_int_handler)

    signal.signal(signal.SIGINT, first)
