"""The segments of a store as past lookups open them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from dnstrail.history.closing import FINAL, OPEN
from dnstrail.log_pause import LogPause
from dnstrail_history.past.open_index import OpenIndex
from dnstrail_history.past.segment_readers import FAULTS, FullSegment, OpenSegmentReader, SegmentReader

#: full segments that are kept open for lookups -> each lookup opens those of the others anew that it needs
MOST_OPEN: Final = 512


class Segments:
    """The segments of a folder, as the lookups of one thread read them. `unreadable` counts those that could not be."""

    def __init__(self, folder: Path) -> None:
        self.unreadable = 0
        self._folder = folder
        # By the names of their files.
        self._full: dict[str, FullSegment] = {}
        self._found: set[str] = set()  # at the last look
        self._tried: set[str] = set()  # segments that were to be learned
        self._indexes: dict[str, OpenIndex] = {}
        self._pause = LogPause()

    @contextmanager
    def opened(self, is_over: Callable[[], bool] = lambda: False) -> Iterator[list[SegmentReader]]:
        """Yield the segments for the time of a block, the oldest first; one that cannot be read is left out.

        Once `is_over` returns true the others are left out. The times of those before are remembered.
        """
        self.close_replaced()
        readers: dict[str, SegmentReader] = {}
        for name in sorted(self._found):
            if is_over():
                break
            if (reader := self._open(name)) is not None:
                readers[name] = reader
        try:
            yield [*readers.values()]
        finally:
            for name, reader in readers.items():
                reader.end_lookup()
                if reader.fault:
                    self._note_fault(name, reader.fault)
                    self._full.pop(name, None)
                if name not in self._full:
                    reader.close()
            open_ones = [reader for reader in self._full.values() if reader.is_open]
            for reader in open_ones[MOST_OPEN:]:
                reader.close()

    def close_replaced(self) -> None:
        """Close the files that were removed, or replaced by others without what is forgotten."""
        found: dict[str, int] = {}
        with suppress(OSError), os.scandir(self._folder) as entries:  # there is no folder: nothing is known
            found.update((entry.name, entry.inode()) for entry in entries if entry.name.endswith((OPEN, FINAL)))
        for name in [name for name, reader in self._full.items() if found.get(name) != reader.inode]:
            self._full.pop(name).close()
        for name in self._indexes.keys() - found.keys():
            del self._indexes[name]
        self._found = {*found}

    def learn(self, is_over: Callable[[], bool]) -> None:
        """Read before a lookup needs it, until `is_over` returns true: the times of full segments, and open segments.

        Each is read once; a lookup reads what is added to an open one later.
        """
        self.close_replaced()
        self._tried &= self._found
        for name in sorted(self._found - self._full.keys() - self._indexes.keys() - self._tried):
            if is_over():
                return
            self._tried.add(name)
            if (reader := self._open(name)) is not None:
                reader.close()

    def close(self) -> None:
        """Close all files."""
        for reader in self._full.values():
            reader.close()
        self._full.clear()

    def _open(self, name: str) -> SegmentReader | None:
        if name in self._full:
            return self._full[name]
        try:
            if name.endswith(OPEN):
                return self._open_unfinished(self._folder / name)
            reader = FullSegment(self._folder / name)
        except FAULTS as error:
            self._note_fault(name, str(error))
            return None
        if len(self._full) >= MOST_OPEN:
            reader.close()
        self._full[name] = reader
        return reader

    def _note_fault(self, name: str, error: str) -> None:
        self.unreadable += 1
        if self._pause.note(time.monotonic()):
            structlog.get_logger().warning("history_not_read", segment=name, error=error)

    def _open_unfinished(self, path: Path) -> SegmentReader:
        index = self._indexes.pop(path.name, None) or OpenIndex()
        try:
            reader = OpenSegmentReader(path, index)
        except sqlite3.OperationalError:
            if path.exists():
                raise
            return FullSegment(path.with_suffix(FINAL))  # it was finished meanwhile
        self._indexes[path.name] = index
        return reader
