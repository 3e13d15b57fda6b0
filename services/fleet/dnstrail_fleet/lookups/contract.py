"""The contract of a store that answers lookups: what replies are made of, whichever database keeps the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from dnstrail.errors import DnstrailError
from dnstrail_fleet.lookups.reading import FoundRelations, FoundRow, FoundRows


class StoreUnavailableError(DnstrailError):
    """The database does not answer, or refuses. `reason` is one word, and the text names the remedy."""

    def __init__(self, address: str, reason: str, text: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address}: {text}")


class RowReader(Protocol):
    """The lookups of one connection. Each may raise sqlite3.Error or StoreUnavailableError. StoreReader explains them.

    A time is in seconds since the epoch, and a key is a name or an address in the form of rows.
    """

    def close(self) -> None:
        """Close the connection."""

    def interrupt(self, is_over: Callable[[], bool]) -> None:
        """Let a function end the lookups from now on."""

    def touching(
        self,
        key: str,
        limit: int,
        *,
        host: str | None = None,
        at: float | None = None,
        before: float | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> FoundRows:
        """Return the newest rows whose target or owner is a key."""

    def of_questions(self, rows: Sequence[FoundRow]) -> Iterator[FoundRows]:
        """Yield for each row all rows of its day, question, host and asker."""

    def of_answers(self, rows: Sequence[FoundRow]) -> FoundRelations:
        """Return the relations of the answers of some rows."""

    def related(self, key: str, hosts: Iterable[str], at: float, is_over: Callable[[], bool]) -> FoundRelations:
        """Return the relations of some hosts that may have been live at a time."""

    def hosts(self) -> list[tuple[Any, ...]]:
        """Return the columns of all hosts."""

    def behind(self, waiting: int, heard: float, gone: float) -> list[str]:
        """Return the hosts that are behind."""

    def has_losses(self, host: str | None) -> bool:
        """Return whether rows of a host were lost, or of any host."""

    def new(self, since: float, limit: int) -> list[tuple[Any, ...]]:
        """Return (name, first, host) of the names that no host asked for before a time, the newest first.

        The host is "" if the store has forgotten it.
        """

    def first_hosts(self, name: str, limit: int) -> list[tuple[str, int]]:
        """Return the hosts that asked for a name on its first days, each with the time at which it did first."""

    def alone(self, name: str) -> tuple[str, int] | None:
        """Return the host that alone asked for a name, with the time at which it did first; None without one."""

    def top(self, what: str, limit: int, now: float, is_over: Callable[[], bool]) -> list[tuple[Any, ...]]:
        """Return (name, answers, relations, hosts, host) of the newest day until now, the most answers first."""

    def first_day(self, host: str | None) -> int:
        """Return the first day with rows of a host, or of any host; 0 if there is none."""
