"""The ids of the facts that segments hold, as a cache published them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from dnstrail.history.closing import FINAL
from dnstrail.history.database import naming_damage, open_reader
from dnstrail.history.fact import LOADED, FactId
from dnstrail.history.segment import SCHEMA

_LOADED: Final = (f"{LOADED}*",)  # no cache publishes these facts
_HAS_OTHERS: Final = "SELECT EXISTS (SELECT 1 FROM starts WHERE start NOT GLOB ?)"
_IDS: Final = """
    SELECT starts.start, batch, place, stage FROM
        (SELECT start AS origin, batch, place, '' AS stage, ended AS time FROM transactions UNION ALL
        SELECT start, batch, place, stages.stage, time FROM connections JOIN stages ON stages.id = connections.stage)
    JOIN starts ON starts.id = origin WHERE starts.start NOT GLOB ? ORDER BY time"""
_IDS_OF: Final = """
    SELECT starts.start, batch, place FROM transactions JOIN starts ON starts.id = transactions.start
    WHERE starts.start = ?"""


def published_ids(database: sqlite3.Connection) -> list[tuple[FactId, str]]:
    """Return the ids of the facts of a segment that a cache published, with the stages of connections, by their times.

    Raises:
        BAD_CONTENTS, sqlite3.Error: The segment cannot be read.
    """
    [has_others] = database.execute(_HAS_OTHERS, _LOADED).fetchone()
    rows = database.execute(_IDS, _LOADED) if has_others else ()
    return [msgspec.convert((row[:3], row[3]), tuple[FactId, str]) for row in rows]


def ids_of(path: Path, start: str) -> list[FactId]:
    """Return the ids of the facts of a start in a segment, which may be finished meanwhile.

    Raises:
        DamagedFileError: The segment is damaged.
        SettingsError: A later version of dnstrail made it.
        sqlite3.Error: It cannot be read.
    """
    try:
        with naming_damage(path), closing(open_reader(path, SCHEMA, final=path.suffix == FINAL)) as database:
            return [msgspec.convert(row, FactId) for row in database.execute(_IDS_OF, (start,))]
    except sqlite3.OperationalError:
        if path.suffix == FINAL or path.exists():
            raise
    return ids_of(path.with_suffix(FINAL), start)
