"""The spool of an output: batches in files of one folder, bounded in bytes, which a restart finds again."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from dnstrail.process.private_folder import SAFELY, open_private
from dnstrail.regular_file import read_regular
from dnstrail_findings.backlog import Backlog

_WHOLE, _NEW = ".lines", ".tmp"  # the ends of the names of files
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # the process, or the host, has none left for the moment
_NAME = re.compile(r"\d{16}-(\d{1,6})(\.lines|\.tmp)", re.ASCII)
MOST_FILES = 16_384  #: files of a spool -> the oldest batch is removed: `spool_full`
#: bytes of one file of a spool -> it is not read: `spool_lost`
MOST_BATCH = 4 << 20  # a webhook is sent less at once


class _Batch(NamedTuple):
    name: str
    lines: int
    size: int


class Spool(Backlog):
    """Batches of lines in files, the oldest first; a file appears whole, under its name.

    Beyond `most_bytes` or MOST_FILES the oldest batch is removed: `spool_full` counts its lines. A batch that cannot be
    written is held in memory, and there is no room until it is, or is done: `spool_failed` counts these batches, and
    `failures`, too. `spool_lost` counts lines that somebody else removed from the spool.

    The folder is opened once: whoever can replace it diverts nothing.
    """

    def __init__(self, folder: Path, most_bytes: int, counters: Counter[str]) -> None:
        super().__init__()
        self._folder = folder
        self._most_bytes = most_bytes
        self._counters = counters
        self._read: Sequence[bytes] = ()  # the oldest batch, once it is read
        self._fails = False
        self._private = open_private(folder, "--to: spool")
        self._opened = self._private.descriptor
        self._batches = _scan(self._opened)
        self._bytes = sum(batch.size for batch in self._batches)
        self._lines = sum(batch.lines for batch in self._batches)
        self._next = int(self._batches[-1].name.partition("-")[0]) + 1 if self._batches else 0

    def __len__(self) -> int:
        return self._lines + len(self._held)

    def is_half_full(self, more: int) -> bool:
        """Return true if more than half of the bytes, with `more` of them, or of the files is taken."""
        return (self._bytes + more) * 2 > self._most_bytes or len(self._batches) * 2 > MOST_FILES

    def add(self, lines: Sequence[bytes]) -> None:
        """Write a batch to a file of its own; remove old ones first, to make room."""
        try:
            self._store(lines)
        except OSError as error:
            self._fail(error)
            super().add(lines)

    def retry(self) -> None:
        """Write the batch that is held to a file: it is the newest."""
        if self._held:
            with suppress(OSError):
                self._store(self._held)
                super().done()

    def first(self) -> Sequence[bytes]:
        """Return the oldest batch that can be read.

        Raises:
            OSError: There is no descriptor or memory to read it at the moment: it stays.
        """
        while self._batches and not self._read:
            try:
                self._read = self._content(self._batches[0]).splitlines()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    raise
            self._counters["spool_lost"] += max(self._batches[0].lines - len(self._read), 0)
            if not self._read:
                self._remove_first()
        return self._read or self._held

    def done(self) -> None:
        """Remove the oldest batch."""
        if self._batches:
            self._remove_first()
        else:
            super().done()

    def close(self) -> None:
        """Let another process use the folder."""
        self._private.close()

    def _fail(self, error: OSError) -> None:
        if not self._fails:
            structlog.get_logger().warning("spool_failed", folder=str(self._folder), error=str(error))
        self._fails = True
        self._counters["spool_failed"] += 1
        self._counters["failures"] += 1

    def _store(self, lines: Sequence[bytes]) -> None:
        content = b"".join(line + b"\n" for line in lines)
        while self._batches and (self._bytes + len(content) > self._most_bytes or len(self._batches) >= MOST_FILES):
            self._counters["spool_full"] += self._remove_first().lines
        self._batches.append(_Batch(self._write(content, len(lines)), len(lines), len(content)))
        self._bytes += len(content)
        self._lines += len(lines)
        self._fails = False

    def _remove_first(self) -> _Batch:
        batch = self._batches.popleft()
        self._read = ()
        self._bytes -= batch.size
        self._lines -= batch.lines
        with suppress(OSError):
            os.unlink(batch.name, dir_fd=self._opened)
        return batch

    def _content(self, batch: _Batch) -> bytes:
        return read_regular(batch.name, min(batch.size, MOST_BATCH), links=False, folder=self._opened)

    def _write(self, content: bytes, count: int) -> str:
        name, made = (f"{self._next:016d}-{count}{ending}" for ending in (_WHOLE, _NEW))
        try:
            file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=self._opened)
            with open(file, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
                left = memoryview(content)
                while left:
                    left = left[stream.write(left) :]
                os.fsync(file)
            os.rename(made, name, src_dir_fd=self._opened, dst_dir_fd=self._opened)
        except OSError:
            with suppress(OSError):
                os.unlink(made, dir_fd=self._opened)
            raise
        self._next += 1
        return name


def _scan(folder: int) -> deque[_Batch]:
    """Return the batches of an earlier process, and remove files that it did not finish."""
    batches = deque[_Batch]()
    for name in sorted(os.listdir(folder)):
        found = _NAME.fullmatch(name)
        if found is None:  # no file of a spool
            continue
        with suppress(OSError):  # it is a folder, or somebody removed it
            if found[2] == _NEW:
                os.unlink(name, dir_fd=folder)
            elif stat.S_ISREG((status := os.stat(name, dir_fd=folder, follow_symlinks=False)).st_mode):
                batches.append(_Batch(name, int(found[1]), status.st_size))
    return batches
