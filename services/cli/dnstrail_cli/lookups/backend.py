"""The lookups of the command line, which a running cache or a capture file answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from dnstrail.connection import Connection
from dnstrail.errors import DataNotFound


class Backend(Protocol):
    """The lookups of the command line. Both forms return the same maps for the same traffic."""

    def get(self, keys: Sequence[str], at: float | None, connection: Connection) -> list[dict[str, Any] | DataNotFound]:
        """Return the data of each key, in order; the error where a key is not found."""

    def trail(self, key: str, connection: Connection, at: float | None) -> dict[str, Any] | DataNotFound:
        """Return the trails of a key, or the error if it is not found."""

    def answers(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield one answer for each line `{"key": ..., "at": epoch}`.

        Raises:
            SettingsError: this backend answers no lines.
        """

    def close(self) -> None:
        """Close what the backend has opened."""
