"""The spool of an output: batches in files of one folder, bounded in bytes, which a restart finds again."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from dnstrail.errors import SettingsError

_NAME = re.compile(r"(\d{16})-(\d{1,6})\.lines", re.ASCII)
_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW
MOST_FILES = 16_384


class _Batch(NamedTuple):
    path: Path
    lines: int
    size: int


class Spool:
    """Batches of lines in files, the oldest first; a file appears whole, under its name.

    Beyond `most_bytes` or MOST_FILES the oldest batch is removed: `spool_full` counts its lines. A batch that cannot be
    written is held in memory, and there is no room until it is done: `spool_failed` counts these batches, and
    `failures`, too. `spool_lost` counts lines that somebody else removed from the spool.
    """

    def __init__(self, folder: Path, most_bytes: int, counters: Counter[str]) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._counters = counters
        self._held: Sequence[bytes] = ()
        self._read: Sequence[bytes] = ()  # the oldest batch, once it is read
        self._fails = False
        self._lock = _own(folder)
        self._batches = _scan(folder)
        self._bytes = sum(batch.size for batch in self._batches)
        self._lines = sum(batch.lines for batch in self._batches)
        self._next = int(self._batches[-1].path.name.partition("-")[0]) + 1 if self._batches else 0

    @property
    def has_room(self) -> bool:
        """True if no batch is held in memory."""
        return not self._held

    def __len__(self) -> int:
        return self._lines + len(self._held)

    @property
    def at_risk(self) -> int:
        """The number of lines that are held in memory."""
        return len(self._held)

    def add(self, lines: Sequence[bytes]) -> None:
        """Write a batch to a file of its own; remove old ones first, to make room."""
        content = b"".join(line + b"\n" for line in lines)
        while self._batches and (self._bytes + len(content) > self._most_bytes or len(self._batches) >= MOST_FILES):
            self._counters["spool_full"] += self._remove_first().lines
        try:
            self._append(_Batch(self._write(content, len(lines)), len(lines), len(content)))
        except OSError as error:
            self._fail(error)
            self._held = lines
        else:
            self._fails = False

    def first(self) -> Sequence[bytes]:
        """Return the oldest batch that can be read."""
        while self._batches and not self._read:
            with suppress(OSError):
                self._read = _read(self._batches[0]).splitlines()
            self._counters["spool_lost"] += max(self._batches[0].lines - len(self._read), 0)
            if not self._read:
                self._remove_first()
        return self._read or self._held

    def done(self) -> None:
        """Remove the oldest batch."""
        if self._batches:
            self._remove_first()
        else:
            self._held = ()

    def close(self) -> None:
        """Let another process use the folder."""
        os.close(self._lock)

    def _fail(self, error: OSError) -> None:
        if not self._fails:
            structlog.get_logger().warning("spool_failed", folder=str(self._folder), error=str(error))
        self._fails = True
        self._counters["spool_failed"] += 1
        self._counters["failures"] += 1

    def _append(self, batch: _Batch) -> None:
        self._batches.append(batch)
        self._bytes += batch.size
        self._lines += batch.lines

    def _remove_first(self) -> _Batch:
        batch = self._batches.popleft()
        self._read = ()
        self._bytes -= batch.size
        self._lines -= batch.lines
        with suppress(OSError):
            batch.path.unlink()
        return batch

    def _write(self, content: bytes, count: int) -> Path:
        path = self._folder / f"{self._next:016d}-{count}.lines"
        made = path.with_suffix(".tmp")
        try:
            file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600)
            with open(file, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
                left = memoryview(content)
                while left:
                    left = left[stream.write(left) :]
                os.fsync(file)
            made.rename(path)
        except OSError:
            with suppress(OSError):
                made.unlink()
            raise
        self._next += 1
        return path


def _own(folder: Path) -> int:
    """Make the folder, check that nobody else can write to it, and lock it; return the lock.

    Raises:
        SettingsError: The folder cannot be made, is not private, or is in use.
    """
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        private = found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(found.st_mode) or not private:
            raise SettingsError(f"--to: {folder} is no folder that this user alone can write to")
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
    except OSError as error:
        raise SettingsError(f"--to: spool {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SettingsError(f"--to: another output uses the spool {folder}") from error
    return lock


def _scan(folder: Path) -> deque[_Batch]:
    """Return the batches of an earlier process, and remove files that it did not finish."""
    batches = deque[_Batch]()
    for path in sorted(folder.iterdir()):
        found = _NAME.fullmatch(path.name)
        if path.suffix == ".tmp":
            path.unlink()
        elif found and stat.S_ISREG((status := path.lstat()).st_mode):
            batches.append(_Batch(path, int(found[2]), status.st_size))
    return batches


def _read(batch: _Batch) -> bytes:
    file = os.open(batch.path, os.O_RDONLY | os.O_NONBLOCK | _SAFELY)
    with open(file, "rb") as stream:  # noqa: PTH123 - a descriptor
        return stream.read(batch.size)
