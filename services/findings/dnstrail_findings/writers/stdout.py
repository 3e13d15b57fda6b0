"""Lines on stdout."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dnstrail_findings.writer import EndedError

_STDOUT = 1


class Stdout:
    """Writes to stdout, unbuffered. A reader that does not read delays this output alone."""

    most = 1
    most_bytes = 1 << 20

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines.

        Raises:
            OSError: The disk behind stdout is full.
            EndedError: The reader has gone.
        """
        left = memoryview(b"".join(line + b"\n" for line in lines))
        try:
            while left:
                left = left[os.write(_STDOUT, left) :]
        except BrokenPipeError as error:
            raise EndedError from error

    def close(self) -> None:
        """Leave stdout open: it belongs to the process."""
