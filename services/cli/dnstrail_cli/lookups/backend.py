"""The two backends that answer lookups of the command line: a running cache over the bus, and a capture file."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import click
import msgspec

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.connection import Connection
from dnstrail.errors import BusError, DataNotFound, SettingsError
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.lookups import MAX_KEYS
from dnstrail.settings import parse_dnscache
from dnstrail_cli.lookups.capture_lookup import CaptureLookup, answer_lines
from dnstrail_cli.progress import Progress, position_in
from dnstrail_probe.options import STDIN_PATH, CaptureOptions


class Backend(Protocol):
    """The lookups of the command line. Both forms return the same maps for the same traffic."""

    def get(self, keys: Sequence[str], at: float | None, connection: Connection) -> list[dict[str, Any] | None]:
        """Return the data of each key, in order; None where a key is not found."""

    def trail(self, key: str, connection: Connection, at: float | None) -> dict[str, Any] | None:
        """Return the trails of a key, or None if it is not found."""

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield one answer for each line `{"key": ..., "at": epoch}`.

        Raises:
            SettingsError: this backend answers no lines.
        """

    def close(self) -> None:
        """Close what the backend has opened."""


class CacheBackend:
    """Lookups that a running cache answers over the bus."""

    def __init__(self, address: str | None, run_dir: Path) -> None:
        try:
            self._client = LookupClient(address or lookups_address(run_dir))
        except BusError as error:  # the address is wrong: no cache was asked
            raise SettingsError(str(error)) from error

    def get(self, keys: Sequence[str], at: float | None, connection: Connection) -> list[dict[str, Any] | None]:
        """Ask for all keys in one request; with a connection, for each key in one of its own."""
        if len(keys) > MAX_KEYS:
            raise SettingsError(f"{len(keys)} keys; {MAX_KEYS} at most in one command")
        if connection.fields:
            return [self._found("get", key, at, connection) for key in keys]
        found: list[dict[str, Any] | None] = self.request("get_many", keys=[*map(_text, keys)], at=at)
        return found

    def trail(self, key: str, connection: Connection, at: float | None) -> dict[str, Any] | None:
        """Ask for the trails of a key."""
        return self._found("trail", key, at, connection)

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Refuse: the key - needs a capture file."""
        del lines
        raise SettingsError("the key - goes with --capture FILE")

    def request(self, op: str, **fields: object) -> Any:
        """Return the data of a reply; fields that are None are left out of the request."""
        return self._client.request(op, **{name: value for name, value in fields.items() if value is not None})["data"]

    def _found(self, op: str, key: str, at: float | None, connection: Connection) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.request(op, key=_text(key), at=at, **connection.fields)
        except DataNotFound:
            return None
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class CaptureBackend:
    """Lookups over a capture file alone: no server, no privilege.

    A file that ends badly still answers, with a warning on stderr.
    """

    def __init__(self, path: str, dnscache: Iterable[str], options: CaptureOptions) -> None:
        settings = parse_dnscache(dnscache)
        if path == STDIN_PATH:
            _leave_first_interrupt_to_writer()
        self._progress = Progress(path, SystemClock(), lambda: position_in(path))
        self._lookup = CaptureLookup(path, settings, options, self._progress.tick)

    def get(self, keys: Sequence[str], at: float | None, connection: Connection) -> list[dict[str, Any] | None]:
        """Return the data of each key as of `at`, or of the end."""
        found = [self._lookup.get(key, at, connection) for key in keys]
        self._finish()
        return [None if one is None else one.fields for one in found]

    def trail(self, key: str, connection: Connection, at: float | None) -> dict[str, Any] | None:
        """Return the trails of a key as of `at`, or of the end."""
        found = self._lookup.trails(key, connection, at)
        self._finish()
        return None if found is None else dict(msgspec.to_builtins(found))

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield one answer for each line, in order."""
        self._progress.pause_on_terminal()
        yield from answer_lines(self._lookup, lines)
        self._finish()

    def close(self) -> None:
        """Close the file."""
        self._progress.close()
        self._lookup.close()

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


def _text(key: str) -> str:
    """Return a key as text; bytes of the command line that are no text become question marks."""
    return key.encode(errors="replace").decode()
