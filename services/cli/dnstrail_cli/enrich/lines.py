"""Lines of files and pipes, as they arrive, with a bound on the length of those that are held."""

from __future__ import annotations

import math
import os
import select
from collections.abc import Sequence
from typing import Final, NamedTuple

#: bytes of a line that `dnstrail enrich` reads -> a longer one passes as it is, and is counted
LONGEST: Final = 1 << 20
_AT_ONCE: Final = 1 << 18  # bytes of one read


class Piece(NamedTuple):
    """A line with its end, if it is `whole`; else a piece of one that is too long, which may be the `first`."""

    raw: bytes
    whole: bool = True
    first: bool = True


class LineReader:
    """The lines of descriptors, one after another. A line longer than LONGEST arrives in pieces: none is held."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = [*descriptors]
        self._rest = b""  # the begin of a line whose end has not arrived
        self._cut = False  # whether the rest continues a line that arrived in pieces
        self._poll = _poll(self._descriptors)

    @property
    def ended(self) -> bool:
        """Whether all descriptors are read to their ends."""
        return not self._descriptors

    def read(self, timeout: float) -> list[Piece]:
        """Return what arrives within `timeout` seconds."""
        if self.ended or not self._poll.poll(math.ceil(max(timeout, 0) * 1000)):
            return []
        data = os.read(self._descriptors[0], _AT_ONCE)
        if not data:
            return self._end()
        head, newline, rest = data.rpartition(b"\n")
        whole = (self._rest + head).split(b"\n") if newline else []
        self._rest = rest if newline else self._rest + data
        found = [self._piece(line + b"\n") for line in whole]
        if len(self._rest) > LONGEST:
            found.append(self._piece(self._rest))
            self._rest, self._cut = b"", True
        return found

    def _end(self) -> list[Piece]:
        """End the first descriptor, and return its last line; the next file begins a line of its own."""
        last, self._rest = self._rest, b""
        del self._descriptors[0]
        self._poll = _poll(self._descriptors)
        found = [self._piece(last if self.ended else last + b"\n")] if last or self._cut else []
        self._cut = False
        return found

    def _piece(self, raw: bytes) -> Piece:
        """Return the next piece, which may continue a line."""
        first, self._cut = not self._cut, False
        return Piece(raw, whole=first and len(raw) <= LONGEST + 1, first=first)


def _poll(descriptors: Sequence[int]) -> select.poll:
    poll = select.poll()
    for descriptor in descriptors[:1]:
        poll.register(descriptor, select.POLLIN)
    return poll
