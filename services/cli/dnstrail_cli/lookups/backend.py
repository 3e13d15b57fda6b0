"""The lookups of the command line, which a running cache or a capture file answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from dnstrail.connection import Connection


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
