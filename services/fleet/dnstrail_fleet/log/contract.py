"""The contract of a log: append, read as a group, acknowledge, lag. Each host has a stream of its own in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from dnstrail.errors import DnstrailError

READERS: Final = "dnstrail-signatures"  # the group of the signatures


class StreamEntry(NamedTuple):
    """An entry as it was read. `host` is the user that wrote it, and `at` the time of the engine, in ms.

    `is_again` states that a reader had it before, and did not acknowledge it.
    """

    host: str
    id: str
    at: int
    body: bytes
    is_again: bool = False


class StreamLag(NamedTuple):
    """The state of the stream of a host: entries that `wait` for the group, and `trimmed` ones that nobody read.

    `trimmed` counts since this log was opened.
    """

    waiting: int
    trimmed: int


class LogUnavailableError(DnstrailError):
    """The engine does not answer, or refuses. `reason` is one word, and the text names the remedy."""

    def __init__(self, address: str, reason: str, text: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address}: {text}")


class FleetLog(Protocol):
    """A log on an existing engine. Each call may raise LogUnavailableError, and may be repeated after it.

    `repeated` counts entries of this host that the engine had taken and lost, and that were appended again.
    """

    repeated: int

    def append(self, body: bytes) -> None:
        """Append an entry to the stream of this host.

        Raises:
            LogUnavailableError: The engine did not take it, as far as is known.
        """

    def read(self, most: int) -> list[StreamEntry]:
        """Return entries that no other reader of the group has, and those that no reader acknowledged in time.

        New entries are among them, however many come again; [] if there is none.

        Raises:
            LogUnavailableError: The engine cannot be read.
        """

    def acknowledge(self, entries: Iterable[StreamEntry]) -> None:
        """State that entries are stored: nobody receives them again.

        Raises:
            LogUnavailableError: The engine did not take it: the entries may come again.
        """

    def lag(self) -> dict[str, StreamLag]:
        """Return the state of each stream.

        Raises:
            LogUnavailableError: The engine cannot be read.
        """

    def close(self) -> None:
        """Close the connection."""
