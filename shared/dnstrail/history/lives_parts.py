"""The lives of a part of an open segment, kept before it is full: `dnstrail seen` reads only the rest of it.

A file of a year names the part in its list of segments, in the transaction that adds the lives: SEGMENT/LAST, the
number of its last transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from dnstrail.history.database import naming_damage, open_existing, open_reader
from dnstrail.history.lives import LIVES, lives_of, merge_lives, year_of
from dnstrail.history.segment import SCHEMA

#: facts that are added to a segment -> the lives of the answers among them are kept
PART: Final = 16_384


def keep_part(path: Path) -> int:
    """Keep the lives of what an open segment got since the last part.

    Those of two years wait until it is full. While a reader reads an earlier state, they wait for the next part.

    Return how often a relation was answered whose life was left out.

    Raises:
        DamagedFileError: The segment, or a file of lives, is damaged.
        SettingsError: A later version of dnstrail made one.
        OSError, sqlite3.Error: One cannot be read or written now.
    """
    beyond: list[int] = []
    after = kept_until(path)
    with closing(open_existing(path, SCHEMA)) as database, naming_damage(path):
        database.execute("BEGIN")  # one state of the segment
        [last] = database.execute("SELECT max(id) FROM transactions").fetchone()
        lives = [*lives_of(database, after=after, left_out=beyond.append)]
        database.execute("COMMIT")
        # The disk has these transactions before their lives: after a crash other ones could have their numbers.
        busy, pages, written = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if busy or written < pages or len({*map(year_of, lives)}) != 1:
        return 0
    return sum(beyond) + merge_lives(path.parent, f"{path.stem}/{last:010d}", lives)


def kept_until(path: Path) -> int:
    """Return the number of the last transaction of a segment whose life is kept.

    Raises:
        DamagedFileError: A file of lives is damaged.
        SettingsError: A later version of dnstrail made it.
        sqlite3.Error: It cannot be read.
    """
    return last_of_parts(_names(path.parent), path.stem)


def last_of_parts(names: Iterable[str], segment: str) -> int:
    """Return the number of the last transaction in the parts of a segment."""
    parts = (name.partition("/") for name in names)
    return max((int(last) for name, _, last in parts if name == segment and last.isdecimal()), default=0)


def _names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9].lives")):
        with closing(open_reader(path, LIVES, final=False)) as database, naming_damage(path):
            yield from (name for [name] in database.execute("SELECT name FROM segments WHERE name LIKE '%/%'"))
