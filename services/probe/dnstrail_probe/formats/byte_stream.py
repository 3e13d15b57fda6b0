"""The bytes of a capture file or pipe, plain or gzip-compressed."""

from __future__ import annotations

import gzip
import os
import select
import stat
import zlib
from io import BufferedReader
from pathlib import Path
from typing import cast

from dnstrail.errors import CaptureError
from dnstrail_probe.source import CUT_SHORT, DAMAGED

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 16
UNDAMAGED = ""  # beside CUT_SHORT and DAMAGED


class ByteStream:
    """A buffer that is filled from a file at its back, and consumed by a reader at its front.

    `end` is None while more bytes may come; then it states how they ended (UNDAMAGED, CUT_SHORT or DAMAGED).
    Invariant: once it is set, no more bytes are read.

    Raises:
        CaptureError: the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.buffer = b""
        self.end: str | None = None
        self._poll: select.poll | None = None  # for a pipe; a file is always ready, and a gzip pipe cannot be polled
        try:
            self._raw = self._file = Path(path).open("rb")  # noqa: SIM115 - until close()
        except (OSError, ValueError) as error:  # ValueError: a path that contains NUL
            raise _unreadable(path, error) from error
        try:
            self._prepare()
        except OSError as error:
            self.close()
            raise _unreadable(path, error) from None

    def fill(self, size: int, timeout: float | None) -> bool:
        """Read until the buffer holds `size` bytes or the stream has ended; return False if that took too long."""
        parts, missing = [self.buffer], size - len(self.buffer)
        while missing > 0 and self.end is None:
            if self._poll and not self._poll.poll(None if timeout is None else timeout * 1000):
                break
            parts.append(self._more(missing))
            missing -= len(parts[-1])
        self.buffer = b"".join(parts)
        return missing <= 0 or self.end is not None

    def consume(self, size: int) -> None:
        """Remove bytes from the front of the buffer."""
        self.buffer = self.buffer[size:]

    def close(self) -> None:
        """Close the file, which ends the stream and discards the buffer."""
        self.end = self.end or UNDAMAGED
        self.buffer = b""
        self._file.close()
        self._raw.close()

    def _prepare(self) -> None:
        if self._raw.peek(len(_GZIP)).startswith(_GZIP):
            self._file = cast("BufferedReader", gzip.GzipFile(fileobj=self._raw))
        elif not stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode):
            self._poll = select.poll()
            self._poll.register(self._raw, select.POLLIN)
            self.buffer = self._raw.read1(_CHUNK)  # the peek has taken these bytes out of the pipe

    def _more(self, size: int) -> bytes:
        """Return some more bytes, b"" at the end."""
        try:
            data = self._file.read1(max(size, _CHUNK))
        except EOFError:
            self.end = CUT_SHORT
            return b""
        except (gzip.BadGzipFile, zlib.error):
            self.end = DAMAGED
            return b""
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if not data:
            self.end = UNDAMAGED
        return data


def _unreadable(path: str | Path, error: Exception) -> CaptureError:
    return CaptureError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")
