"""Lookups that a running cache answers over the bus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.connection import Connection
from dnstrail.errors import BusError, DataNotFound, SettingsError
from dnstrail.protocol.lookups import MAX_KEYS


class CacheBackend:
    """Lookups that a running cache answers over the bus."""

    def __init__(self, address: str | None, run_dir: Path) -> None:
        try:
            self._client = LookupClient(address or lookups_address(run_dir))
        except BusError as error:  # the address is wrong: no cache was asked
            raise SettingsError(str(error)) from error

    def get(self, keys: Sequence[str], at: float | None, connection: Connection) -> list[dict[str, Any] | DataNotFound]:
        """Ask for all keys in one request; with a connection, for each key in one of its own."""
        if len(keys) > MAX_KEYS:
            raise SettingsError(f"{len(keys)} keys; a cache answers {MAX_KEYS} at most in one command")
        if connection.fields:
            return [self._found("get", key, at, connection) for key in keys]
        reply = self._reply("get_many", keys=[*map(_text, keys)], at=at)
        return [
            # The error says who asked in vain.
            self._found("get", key, at, connection) if data is None else data | _source_of(reply)
            for key, data in zip(keys, reply["data"], strict=True)
        ]

    def trail(self, key: str, connection: Connection, at: float | None) -> dict[str, Any] | DataNotFound:
        """Ask for the trails of a key."""
        return self._found("trail", key, at, connection)

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Refuse: the key - needs a capture file."""
        del lines
        raise SettingsError("the key - goes with --capture FILE")

    def request(self, op: str, **fields: object) -> Any:
        """Return the data of a reply; fields that are None are left out of the request."""
        return self._reply(op, **fields)["data"]

    def pages(self, op: str, **fields: object) -> Iterator[dict[str, Any]]:
        """Yield the data of all pages of an operation, each with who answered in place of the cache."""
        cursor: str | None = ""
        while cursor is not None:
            reply = self._reply(op, cursor=cursor, **fields)
            yield reply["data"] | _source_of(reply)
            cursor = reply["data"]["next"] or None

    def _reply(self, op: str, **fields: object) -> dict[str, Any]:
        return self._client.request(op, **{name: value for name, value in fields.items() if value is not None})

    def _found(self, op: str, key: str, at: float | None, connection: Connection) -> dict[str, Any] | DataNotFound:
        try:
            reply = self._reply(op, key=_text(key), at=at, **connection.fields)
        except DataNotFound as error:
            return error
        found: dict[str, Any] = reply["data"] | _source_of(reply)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _source_of(reply: dict[str, Any]) -> dict[str, Any]:
    """Return who answered in place of the cache, as a field."""
    return {name: reply[name] for name in ("source",) if name in reply}


def _text(key: str) -> str:
    """Return a key as text; bytes of the command line that are no text become question marks."""
    return key.encode(errors="replace").decode()
