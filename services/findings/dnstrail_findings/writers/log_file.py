"""Lines in a file, which is rotated by size, and lines on stdout."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from dnstrail_findings.output import EndedError

_STDOUT = 1


class LogFile:
    """A file of lines. Before it exceeds `most_size` bytes, it is renamed to PATH.1, and PATH.1 to PATH.2.

    At most `files` files are kept. Only a regular file of this user is written to, never through a link. A batch that
    does not fit on the disk leaves no part behind. A file that somebody moved or removed is made anew.
    """

    most = 100
    most_bytes = 1 << 20

    def __init__(self, path: Path, most_size: int, files: int) -> None:
        self._path = path
        self._most_size = most_size
        self._files = files
        self._file: int | None = None

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines.

        Raises:
            OSError: The file cannot be written to.
        """
        content = b"".join(line + b"\n" for line in lines)
        file, size = self._opened()
        if size and size + len(content) > self._most_size:
            self._rotate()
            file, size = self._opened()
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> tuple[int, int]:
        """Return the file at the path, and its size."""
        if self._file is not None and not self._is_current(self._file):
            self.close()
        if self._file is None:
            self._file = _open(self._path)
        return self._file, os.fstat(self._file).st_size

    def _is_current(self, file: int) -> bool:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(file))

    def _rotate(self) -> None:
        self.close()
        kept = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._files))]
        for older, newer in zip(kept[:0:-1], kept[-2::-1], strict=True):
            with suppress(FileNotFoundError):
                newer.replace(older)
        if self._files == 1:
            self._path.unlink()


def try_file(path: Path) -> None:
    """Check that this user can append to a file, or make it; leave nothing behind.

    Raises:
        OSError: The file cannot be written to.
    """
    try:
        os.close(_open(path, make=False))
    except FileNotFoundError:
        TemporaryFile(dir=path.parent).close()


def _open(path: Path, *, make: bool = True) -> int:
    """Open a file to append to it.

    Raises:
        OSError: It cannot be opened, is not regular, or belongs to another user.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(path, flags | os.O_CREAT * make, 0o640)
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return file
    os.close(file)
    raise OSError(f"{path} is no regular file of this user")


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
