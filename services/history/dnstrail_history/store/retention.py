"""How long the files of a folder are kept: by the times of their facts, their bytes, and the year of their lives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dnstrail.errors import SettingsError
from dnstrail.history.closing import FINAL
from dnstrail.history.database import DamagedFileError, naming_damage, open_reader, remove_logs
from dnstrail.history.fact import LOADED
from dnstrail.history.segment import MOST_SPAN, SCHEMA
from dnstrail.history.segment_files import SegmentFile, lives_files, segment_files
from dnstrail.history.segment_keys import remove_keys
from dnstrail.image.bounds import SECOND
from dnstrail.process.clock import Clock

DAYS: Final = 7.0  #: days after its last transaction -> a segment is removed
BYTES: Final = 2 << 30  #: bytes of all segments -> the oldest is removed
YEAR: Final = 366  #: days after its last day -> the file of the lives of a year is removed
#: seconds after a jump of the wall clock, and after a start at which no file was written within a day -> age removes
#: nothing before: the clock may be wrong
STEADY: Final = 3600.0
JUMP: Final = 60.0  # seconds by which the wall clock may leave the monotonic one from one look to the next
_DAY: Final = 86_400.0  # seconds
_LAST: Final = "SELECT last, EXISTS (SELECT 1 FROM starts WHERE start GLOB ?) FROM extent"
_UNREADABLE: Final = (
    DamagedFileError,
    SettingsError,
    sqlite3.Error,
)  # the time of such a file is that of its last write


class Retention:
    """The rule by which the files of a folder are removed. `removed` counts segments.

    A segment is as old as its last fact. Loaded facts, and those of a time ahead, are as old as their file; a file of a
    time ahead is as old as this object knows it. The wall clock may be wrong, as on a host that starts before it has
    heard the time: age removes files only while that clock agrees with the monotonic one, and with the times of the
    files at the start.
    """

    def __init__(self, folder: Path, clock: Clock, days: float, most_bytes: int) -> None:
        self.removed = 0
        self.most_bytes = most_bytes
        self._folder = folder
        self._clock = clock
        self._days = days
        # By path and inode: the time of the last fact (s), and the monotonic time of the first look.
        self._known: dict[tuple[Path, int], tuple[float | None, float]] = {}
        self._difference = clock.wall() - clock.monotonic()
        self._steady = clock.monotonic() + (0.0 if self._is_plausible() else STEADY)

    def apply(self, used: Iterable[Path]) -> None:
        """Remove the segments that are too old or too much, but none that is used, and the years that are too old.

        Raises:
            OSError: A file cannot be removed.
        """
        wall, is_steady = self._clock.wall(), self._is_steady()
        kept, segments = {*used}, segment_files(self._folder)
        files = [(file, file.path.stat()) for file in sorted(segments, key=lambda file: file.ending != FINAL)]
        total = sum(status.st_size for _, status in files)
        known, self._known = self._known, {}
        for file, status in files:
            key = file.path, status.st_ino
            last, seen = self._known[key] = known.get(key) or (_last_fact(file), self._clock.monotonic())
            time = last if last is not None and last <= wall else status.st_mtime
            age = wall - time if time <= wall + JUMP else self._clock.monotonic() - seen
            is_old = is_steady and age > self._days * _DAY
            if file.path in kept or not (is_old or total > self.most_bytes):
                continue
            remove_segment(file.path)
            total -= status.st_size
            self.removed += 1
        first = datetime.fromtimestamp(max(wall - YEAR * _DAY, 0.0), UTC).year
        for year, path in lives_files(self._folder) if is_steady else ():
            if year < first:
                path.unlink()

    def _is_steady(self) -> bool:
        """Note how the wall clock went since the last look, and return whether it is known to be right."""
        now = self._clock.monotonic()
        difference = self._clock.wall() - now
        if abs(difference - self._difference) > JUMP:
            self._steady = now + STEADY
        self._difference = difference
        return now >= self._steady

    def _is_plausible(self) -> bool:
        """Return whether the wall time is that of the files: the last one was written within a day."""
        with suppress(OSError):
            times = [file.path.stat().st_mtime for file in segment_files(self._folder)]
            return not times or -JUMP <= self._clock.wall() - max(times) <= MOST_SPAN
        return False


def _last_fact(file: SegmentFile) -> float | None:
    """Return the time of the last fact of a full segment (s), None if only its file has a time."""
    if file.ending != FINAL or file.is_aside:
        return None
    try:
        with naming_damage(file.path), closing(open_reader(file.path, SCHEMA, final=True)) as database:
            last, is_loaded = database.execute(_LAST, (f"{LOADED}*",)).fetchone()
            return None if is_loaded or last is None else float(last) / SECOND
    except _UNREADABLE:
        return None


def remove_segment(path: Path) -> None:
    """Remove a segment that nobody uses.

    Raises:
        OSError: It cannot be removed.
    """
    remove_keys(path)
    path.unlink()
    remove_logs(path)
