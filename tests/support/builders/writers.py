"""A writer of findings whose faults a test sets, and an encoder that numbers its lines."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from live.workers import BOUND


class Script:
    """A writer that fails as a test sets it, and holds what was written."""

    most = 2
    most_bytes = 1 << 20

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.tries = 0
        self.fault: Exception | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.closed = False

    def write(self, lines: Sequence[bytes]) -> None:
        """Write, or raise the fault."""
        self.tries += 1
        assert self.goes_on.wait(BOUND)
        if self.fault is not None:
            raise self.fault
        self.written += lines

    def close(self) -> None:
        """Note the end."""
        self.closed = True


class Numbered:
    """An encoder that numbers the lines."""

    def __init__(self, size: int = 0) -> None:
        self.number = 0
        self.size = size

    def __call__(self, _finding: object) -> bytes:
        """Return the next number."""
        self.number += 1
        return b"%d" % self.number + b"." * self.size
