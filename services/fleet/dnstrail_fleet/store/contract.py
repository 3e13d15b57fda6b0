"""The contract of a store that rows are written to: each call may be repeated after a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from dnstrail_fleet.log.contract import StreamLag
from dnstrail_fleet.store.store import ReceivedEntry


class RowStore(Protocol):
    """The rows of all hosts. Each call may raise sqlite3.Error, StoreUnavailableError or SettingsError.

    `counters` counts `entries` and `rows` that were written, and rows that were `left_out` or `too_old`. `at_once` is
    the number of entries that are written together, and `pause` the time in seconds until the next read if fewer wait.
    """

    counters: Counter[str]
    at_once: int
    pause: float

    def write(self, entries: Iterable[ReceivedEntry], refused: Mapping[tuple[str, str], int], now: float) -> None:
        """Write entries, and how many were refused by host and reason, at a time in seconds since the epoch."""

    def note_lag(self, lag: Mapping[str, StreamLag]) -> None:
        """Store the state of streams."""

    def remove_old(self, now: float) -> Iterator[int]:
        """Remove the rows that are too old at a time (seconds since the epoch), in steps; yield the number of each."""

    def close(self) -> None:
        """Close the connection."""
