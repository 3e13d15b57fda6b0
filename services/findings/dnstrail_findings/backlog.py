"""The lines of an output: those that wait for its thread, and one batch in memory that it has not yet written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

MOST_LINES = 10_000  #: findings that wait in the queue of an output -> the finding is lost: `queue_full`
MOST_BYTES = 16 << 20  #: bytes in the queue of an output -> the finding is lost: `queue_full`


class Backlog:
    """Batches of lines in their order: here at most one, in memory. There is room while it holds none."""

    def __init__(self) -> None:
        self._held: Sequence[bytes] = ()

    @property
    def has_room(self) -> bool:
        """True if a batch can be added."""
        return not self._held

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._held)

    @property
    def at_risk(self) -> int:
        """The number of lines that are lost if the process ends: those in memory."""
        return len(self._held)

    def is_half_full(self, more: int) -> bool:  # noqa: ARG002 - a spool
        """Return true if more than half of the room, with `more` bytes, is taken: memory drops no old batch."""
        return False

    def add(self, lines: Sequence[bytes]) -> None:
        """Add a batch."""
        self._held = lines

    def retry(self) -> None:
        """Try again to keep the batch in memory beyond the process: memory keeps nothing."""

    def first(self) -> Sequence[bytes]:
        """Return the oldest batch, which is empty if there is none."""
        return self._held

    def done(self) -> None:
        """Remove the oldest batch."""
        self._held = ()

    def close(self) -> None:
        """Close the backlog: memory needs no end."""


class LineQueue:
    """Lines in order, bounded by number and `bytes`. A line that finds no room is refused: nobody waits for room."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def is_half_full(self) -> bool:
        """True if more than half of the lines, or of the bytes, is taken."""
        return len(self._lines) * 2 > MOST_LINES or self.bytes * 2 > MOST_BYTES

    def add(self, line: bytes) -> bool:
        """Add a line; return False if there is no room."""
        with self._changed:
            if len(self._lines) >= MOST_LINES or self.bytes + len(line) > MOST_BYTES:
                return False
            self._lines.append(line)
            self.bytes += len(line)
            self._changed.notify()
            return True

    def take(self, lines: int, size: int, wait: float | None) -> list[bytes]:
        """Return up to a number of lines and bytes, but at least one line if there is any.

        Wait for the first for `wait` seconds (None: without an end), or until the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed, wait)
            taken: list[bytes] = []
            while self._lines and len(taken) < lines and (not taken or size >= len(self._lines[0])):
                taken.append(self._lines.popleft())
                size -= len(taken[-1])
                self.bytes -= len(taken[-1])
            return taken

    def close(self) -> None:
        """Let `take` wait no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
