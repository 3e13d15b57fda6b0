"""The lines that an output has taken and not yet written: one batch in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Backlog(Protocol):
    """Batches of lines in their order."""

    @property
    def has_room(self) -> bool:
        """True if a batch can be added."""
        ...

    def __len__(self) -> int:
        """Return the number of lines."""
        ...

    @property
    def at_risk(self) -> int:
        """The number of lines that are lost if the process ends."""
        ...

    def add(self, lines: Sequence[bytes]) -> None:
        """Add a batch."""
        ...

    def first(self) -> Sequence[bytes]:
        """Return the oldest batch, [] if there is none."""
        ...

    def done(self) -> None:
        """Remove the oldest batch."""
        ...

    def close(self) -> None:
        """Close the backlog."""
        ...


class MemoryBacklog:
    """One batch in memory."""

    def __init__(self) -> None:
        self._lines: Sequence[bytes] = ()

    @property
    def has_room(self) -> bool:
        """True if no batch waits."""
        return not self._lines

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def at_risk(self) -> int:
        """The number of lines."""
        return len(self._lines)

    def add(self, lines: Sequence[bytes]) -> None:
        """Hold a batch."""
        self._lines = lines

    def first(self) -> Sequence[bytes]:
        """Return the batch."""
        return self._lines

    def done(self) -> None:
        """Forget the batch."""
        self._lines = ()

    def close(self) -> None:
        """Do nothing: memory needs no end."""
