"""The files of the segments and of the years in a folder, by their names."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from dnstrail.history.closing import FINAL
from dnstrail.history.database import open_database, open_reader
from dnstrail.history.segment import SCHEMA

_NAME: Final = re.compile(r"(\d{10})(\.open|\.segment)(\.damaged)?", re.ASCII)
_YEAR: Final = re.compile(r"(\d{4})\.lives(\.damaged)?", re.ASCII)


class SegmentFile(NamedTuple):
    """The file of a segment. `is_aside`: it was damaged."""

    number: int
    path: Path
    ending: str
    is_aside: bool


def segment_files(folder: Path) -> list[SegmentFile]:
    """Return the files of all segments, the oldest first.

    Raises:
        OSError: The folder cannot be read.
    """
    found = [(path, _NAME.fullmatch(path.name)) for path in folder.iterdir()]
    return sorted(SegmentFile(int(name[1]), path, name[2], bool(name[3])) for path, name in found if name)


def lives_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the files of the lives of all years, also the damaged ones, each with its year, in their order.

    Raises:
        OSError: The folder cannot be read.
    """
    found = [(path, _YEAR.fullmatch(path.name)) for path in folder.iterdir()]
    return sorted((int(name[1]), path) for path, name in found if name)


def open_segment(file: SegmentFile) -> sqlite3.Connection:
    """Open a segment; one that is not final is recovered, if its writer was killed.

    Raises:
        DamagedFileError: It is damaged, or another file.
        SettingsError: A later version of dnstrail made it.
        OSError, sqlite3.Error: It cannot be opened.
    """
    return open_reader(file.path, SCHEMA, final=True) if file.ending == FINAL else open_database(file.path, SCHEMA)
