"""Lines on stdout."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dnstrail_findings.writer import EndedError

_STDOUT = 1


class Stdout:
    """Writes to stdout, unbuffered. A reader that does not read delays this output alone.

    Invariant: after a failure `_left` is what is left of the lines, which are tried again before any others.
    """

    most = 1
    most_bytes = 1 << 20

    def __init__(self) -> None:
        self._left = memoryview(b"")

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, or what is left of them.

        Raises:
            OSError: The disk behind stdout is full, or a pipe that another process made non-blocking.
            EndedError: The reader has gone.
        """
        self._left = self._left or memoryview(b"".join(line + b"\n" for line in lines))
        try:
            while self._left:
                self._left = self._left[os.write(_STDOUT, self._left) :]
        except BrokenPipeError as error:
            raise EndedError from error

    def close(self) -> None:
        """Leave stdout open: it belongs to the process."""
