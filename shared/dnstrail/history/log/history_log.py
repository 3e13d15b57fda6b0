"""The log of a folder of the history. Nothing that it does stops the worker that writes there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

from dnstrail.events import DNS_TRANSACTION
from dnstrail.history.closing import FINAL
from dnstrail.history.database import FORBIDDEN, LOCKED, DamagedFileError, is_forbidden, is_locked
from dnstrail.history.log.candidates import keys_of
from dnstrail.history.log.entries import LogEntry
from dnstrail.history.log.segment_entries import LAST, SegmentEntries
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.segment_files import SegmentFile, segment_files
from dnstrail.history.segment_keys import HashedKey, lacks_key


class HistoryLog:
    """Reads the questions, or the connections, in the segments of a folder.

    `warn` is called with each file that is damaged: the others answer. `size` and `position` state, in bytes of the
    files, how far `read` has come.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], topic: str = DNS_TRANSACTION) -> None:
        self.size = self.position = 0
        self._folder = folder
        self._warn = warn
        self._topic = topic
        self._warned: set[Path] = set()
        self._read = (0, 0)  # the segment, and the fact in it, up to which everything was looked at

    def read(self, selection: LogSelection) -> Iterator[LogEntry]:
        """Yield the entries of a selection in the order of their ends; a later call continues after them.

        Raises:
            OSError: The folder cannot be read.
            SettingsError: A later version of dnstrail made a segment.
            sqlite3.Error: A segment cannot be read.
        """
        number, last = self._read
        files = [(file, _size(file.path)) for file in self._files() if file.number >= number]
        self.size, self.position = sum(size for _, size in files), 0
        keys = keys_of(selection)
        for file, size in files:
            after = last if file.number == number else 0
            is_lacking = _lacks(file, keys)
            self._read = (file.number, LAST if is_lacking else after)
            segment = SegmentEntries(file.path, self._topic)
            with self._naming(segment):
                for part in () if is_lacking else segment.read(selection, after):
                    for _, entry in part:
                        yield entry
                    if part:
                        self._read = (file.number, part[-1][0])
                self._read = (file.number, max(self._read[1], segment.last))
            self.position += size

    def newest(self, selection: LogSelection, count: int) -> list[LogEntry]:
        """Return the last entries of a selection in the order of their ends; a later `read` continues after them.

        Raises:
            OSError, SettingsError, sqlite3.Error: As for `read`.
        """
        found: list[LogEntry] = []
        files = self._files()
        keys = keys_of(selection)
        for file in reversed(files):
            is_lacking = _lacks(file, keys)
            segment = SegmentEntries(file.path, self._topic)
            with self._naming(segment), closing(segment.newest(selection)) as parts:
                for _, entry in () if is_lacking else islice(chain.from_iterable(parts), count - len(found)):
                    found.append(entry)
            if file is files[-1]:
                self._read = (file.number, LAST if is_lacking else segment.last)
            if len(found) == count:
                break
        return found[::-1]

    def backwards(self, selection: LogSelection) -> Generator[LogEntry, None, None]:
        """Yield the entries of a selection, the newest first.

        Raises:
            OSError, SettingsError, sqlite3.Error: As for `read`.
        """
        keys = keys_of(selection)
        for file in reversed(self._files()):
            if not _lacks(file, keys):
                segment = SegmentEntries(file.path, self._topic)
                with self._naming(segment), closing(segment.newest(selection)) as parts:
                    for _, entry in chain.from_iterable(parts):
                        yield entry

    def _files(self) -> list[SegmentFile]:
        """Return the files of the segments that can be read, and name the others."""
        found: list[SegmentFile] = []
        for file in segment_files(self._folder):
            if file.is_aside:
                self._warn_of(file.path, "it is damaged")
            elif file.path.is_symlink():
                self._warn_of(file.path, "it is no regular file, and left out")
            else:
                found.append(file)
        return found

    @contextmanager
    def _naming(self, segment: SegmentEntries) -> Iterator[None]:
        """Name a segment that is damaged, locked, forbidden or was removed, and leave the rest of it out.

        Raises:
            SettingsError: A later version of dnstrail made it.
            sqlite3.Error: It cannot be read.
        """
        try:
            yield
        except DamagedFileError as error:
            self._warn_of(error.path, error.reason)
        except sqlite3.OperationalError as error:
            if is_locked(error):
                self._warn_of(segment.path, LOCKED)
            elif is_forbidden(segment.path):
                self._warn_of(segment.path, FORBIDDEN)
            elif segment.path.exists():
                raise

    def _warn_of(self, path: Path, reason: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            self._warn(f"{path}: {reason}")


def _lacks(file: SegmentFile, keys: list[HashedKey]) -> bool:
    """Return whether a segment certainly lacks one of the keys that a selection needs."""
    return bool(keys) and file.ending == FINAL and lacks_key(file.path, keys)


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
