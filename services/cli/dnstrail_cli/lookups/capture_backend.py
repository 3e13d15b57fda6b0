"""Lookups over a capture file alone, without a cache."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import click
import msgspec

from dnstrail.capture_options import STDIN_PATH, CaptureOptions
from dnstrail.connection import Connection
from dnstrail.errors import DataNotFound
from dnstrail.process.clock import SystemClock
from dnstrail.settings import parse_dnscache
from dnstrail_cli.lookups.capture_lookup import CaptureLookup, answer_lines
from dnstrail_cli.progress import Progress, position_in

_COLLECT = 100_000  # objects between two collections: an image makes no reference cycles, and a stream may never end


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
        self._progress = Progress(path, SystemClock(), lambda: position_in(path))
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
