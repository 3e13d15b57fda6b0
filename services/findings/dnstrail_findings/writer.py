"""The contract of a writer: the end of an output that writes lines somewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RefusedError(Exception):
    """The receiver refuses these lines for good, or only `lines` of them. The text names the reason."""

    def __init__(self, reason: str, lines: int | None = None) -> None:
        self.lines = lines
        super().__init__(reason)


class EndedError(Exception):
    """The receiver has left for good, and wants no more lines."""


class Writer(Protocol):
    """Writes batches of lines. It belongs to the thread of its output.

    `most` and `most_bytes` bound a batch. A batch is written whole or not at all, as far as the receiver allows it.
    """

    most: int
    most_bytes: int

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, in bounded time.

        Raises:
            OSError: They were not written now, and may be later.
            RefusedError: They were refused for good.
            EndedError: The receiver wants no more lines.
        """
        ...

    def close(self) -> None:
        """Close the writer."""
        ...
