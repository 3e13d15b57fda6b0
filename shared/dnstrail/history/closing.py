"""What happens to a full segment: it gets its indexes and keys, its lives are kept, and nobody writes to it again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from dnstrail.history.database import naming_damage, open_existing, remove_logs, transaction
from dnstrail.history.lives import lives_of, merge_lives
from dnstrail.history.lives_parts import kept_until
from dnstrail.history.rare_names import store_rare_names
from dnstrail.history.rows import insert, rows
from dnstrail.history.segment import SCHEMA
from dnstrail.history.segment_keys import remove_keys, write_keys
from dnstrail.history.sums import store_sums

OPEN, FINAL, ASIDE = ".open", ".segment", ".damaged"  # the endings of the names of segments
_AT_ONCE: Final = 262_144  # rows that are added at once
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_INDEXES: Final = """
    CREATE TABLE extent (first INTEGER, last INTEGER, count INTEGER);
    INSERT INTO extent SELECT min(time), max(time), count(*)
        FROM (SELECT ended AS time FROM transactions UNION ALL SELECT time FROM connections);
    CREATE TABLE names (reversed TEXT PRIMARY KEY, text INTEGER) WITHOUT ROWID;
    CREATE TABLE related (text INTEGER, answer INTEGER, PRIMARY KEY (text, answer)) WITHOUT ROWID;
    CREATE INDEX relations_by_owner ON relations (owner);
    CREATE INDEX transactions_by_name ON transactions (name);
    CREATE INDEX transactions_by_answer ON transactions (answer) WHERE answer IS NOT NULL;
    CREATE INDEX transactions_by_process ON transactions (process) WHERE process IS NOT NULL;
    CREATE INDEX paths_by_destination ON paths (destination);
    CREATE INDEX connections_by_path ON connections (path);
    CREATE INDEX connections_by_name ON connections (name) WHERE name IS NOT NULL;
    CREATE INDEX connections_by_process ON connections (process) WHERE process IS NOT NULL;
    CREATE INDEX connections_by_opening ON connections (time - ifnull(lasted, 0));
    CREATE INDEX carried_by_path ON carried (path);
"""


def finish(path: Path) -> int:
    """Finish a full segment. What was done is not done again if it was interrupted.

    Return how often a relation was answered whose life was left out, since the segment, its day or year has too many.

    Raises:
        DamagedFileError: The segment, or a file of lives, is damaged.
        SettingsError: A later version of dnstrail made one.
        OSError, sqlite3.Error: One cannot be written now.
    """
    beyond: list[int] = []
    with closing(open_existing(path, SCHEMA)) as database:
        with naming_damage(path):
            [mode] = database.execute("PRAGMA journal_mode=DELETE").fetchone()
            if mode != "delete":
                raise sqlite3.OperationalError(f"{path}: a reader still reads it")
            add_indexes(database)
            lives = [*lives_of(database, after=kept_until(path), left_out=beyond.append)]
            write_keys(path, database)
        beyond.append(merge_lives(path.parent, path.stem, lives))
    path.rename(path.with_suffix(FINAL))
    return sum(beyond)


def _related(database: sqlite3.Connection) -> Iterator[list[tuple[int, int]]]:
    """Yield the texts of each answer, with its id, in parts: thousands of answers may state the same thousands."""
    relations = {number: (owner, target) for number, owner, _, target in rows(database, "relations")}
    found: list[tuple[int, int]] = []
    for answer, packed in rows(database, "answers"):
        found += {(text, answer) for one in _IDS(packed) for text in relations[one]}
        if len(found) >= _AT_ONCE:
            yield found
            found = []
    yield found


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nobody reads it, and return its new path.

    Raises:
        OSError: It cannot be renamed.
    """
    aside = path.with_name(path.name + ASIDE)
    remove_logs(path)
    remove_keys(path)
    path.rename(aside)
    return aside


def add_indexes(database: sqlite3.Connection) -> None:
    """Add the indexes of a full segment, unless it has them.

    Raises:
        sqlite3.Error: They cannot be written.
    """
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'extent'").fetchone():
        return
    with transaction(database):
        for statement in _INDEXES.split(";"):
            database.execute(statement)
        insert(database, "names", sorted((text[::-1], number) for number, text in rows(database, "texts")))
        for related in _related(database):
            insert(database, "related", sorted(related))
        store_sums(database)
        store_rare_names(database)
