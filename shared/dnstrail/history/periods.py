"""The periods of lives: old days become weeks, and old weeks months."""

from __future__ import annotations

import sqlite3
from datetime import date
from typing import Final

WEEKS_AFTER: Final = 31  #: days of a life by itself -> it is merged with the others of its week
MONTHS_AFTER: Final = 183  #: days of a week by itself -> it is merged with the others of its month
MERGE: Final = """
    INSERT INTO lives (day, owner, type, target, asker, first, lasted, held, count, gaps)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        gaps = gaps + excluded.gaps + (excluded.first > "end"), first = min(first, excluded.first),
        lasted = max(last, excluded.last) - min(first, excluded.first),
        held = max("end", excluded."end") - max(last, excluded.last), count = count + excluded.count"""
_OF_DAY: Final = "SELECT owner, type, target, asker, first, lasted, held, count, gaps FROM lives WHERE day = ?"
_EPOCH: Final = date(1970, 1, 1).toordinal()


def period_of(day: int, today: int) -> int:
    """Return the first day of the period to which a day belongs, in days since the epoch. No period has two years.

    A week belongs to the month of its first day.
    """
    if today - day <= WEEKS_AFTER:
        return day
    found = date.fromordinal(_EPOCH + day)
    if today - day > MONTHS_AFTER:
        return found.replace(day=1).toordinal() - _EPOCH
    return max(day - found.weekday(), date(found.year, 1, 1).toordinal() - _EPOCH)


def merge_periods(database: sqlite3.Connection, today: int) -> None:
    """Merge the days of a file of lives that are old enough.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    day = -1
    while (day := _next(database, day)) < today - WEEKS_AFTER:
        first = period_of(day, today)
        if first != day:
            rows = database.execute(_OF_DAY, (day,)).fetchall()
            database.executemany(MERGE, ((first, *row) for row in rows))
            database.execute("DELETE FROM lives WHERE day = ?", (day,))


def _next(database: sqlite3.Connection, day: int) -> int:
    """Return the first day with lives after a day; one that never comes if there is none."""
    [found] = database.execute("SELECT min(day) FROM lives WHERE day > ?", (day,)).fetchone()
    return date.max.toordinal() if found is None else int(found)
