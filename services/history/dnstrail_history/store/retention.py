"""What is removed from the folder of the history: segments that are too old or too much, and years that are over."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dnstrail.history.closing import OPEN
from dnstrail.history.database import remove_logs
from dnstrail.history.segment_files import SegmentFile, segment_files

DAYS: Final = 7.0  #: days after its last transaction -> a segment is removed
BYTES: Final = 2 << 30  #: bytes of all segments -> the oldest is removed
YEAR: Final = 366  #: days after its last day -> the file of the lives of a year is removed
LIVES_FILE: Final = re.compile(r"(\d{4})\.lives(\.damaged)?", re.ASCII)
_DAY: Final = 86_400.0  # seconds


def remove_old(folder: Path, wall: float, days: float, most_bytes: int, is_used: Callable[[SegmentFile], bool]) -> int:
    """Remove the segments that are too old or too much at a time (s), unless they are used; likewise years.

    Return the number of segments that were removed.

    Raises:
        OSError: A file cannot be removed.
    """
    removed = 0
    files = sorted(segment_files(folder), key=lambda file: file.ending == OPEN)  # the lives of those are not kept yet
    sizes = [(file, file.path.stat()) for file in files]
    total = sum(status.st_size for _, status in sizes)
    for file, status in sizes:
        is_old = status.st_mtime < wall - days * _DAY
        if is_used(file) or not (is_old or total > most_bytes):
            continue
        remove_segment(file.path)
        total -= status.st_size
        removed += 1
    first = datetime.fromtimestamp(max(wall - YEAR * _DAY, 0.0), UTC).year
    for path in folder.iterdir():
        if (name := LIVES_FILE.fullmatch(path.name)) and int(name[1]) < first:
            path.unlink()
    return removed


def remove_segment(path: Path) -> None:
    """Remove a segment that nobody uses.

    Raises:
        OSError: It cannot be removed.
    """
    path.unlink()
    remove_logs(path)
