"""Files of SQLite: how they are made, opened and checked. No text of a stranger becomes a part of a statement."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.private_folder import SAFELY

PATIENCE: Final = 5.0  # seconds for a lock that another process holds
LOCKED: Final = "the worker is finishing it, and it is left out: try again"  # a warning of a reader
FORBIDDEN: Final = "this user may not read it, and it is left out"  # the same
# Errors of values that no writer of ours stores; bytes that were a text lack its methods.
BAD_CONTENTS: Final = (AttributeError, LookupError, TypeError, ValueError, OverflowError, msgspec.MsgspecError)
# No writer of ours breaks a constraint.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT})
_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# The begins of errors that have no code of their own: bytes that are no text, and bytes in the place of a number.
_NO_VALUE: Final = ("Could not decode to UTF-8", "JSON cannot hold BLOB values")
_LOGS: Final = ("-wal", "-shm", "-journal")  # the endings of the names of the files beside one
_BEGUN: Final = ".begun"  # the ending of the name of a file until it has its tables
_PRIMARY: Final = 0xFF  # the primary code of an extended one
_DURABLE: Final = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA trusted_schema=OFF"


class Schema(NamedTuple):
    """The tables of a kind of file, and the number that identifies this kind.

    `later` contains, for each version after the first, the statements that lead to it: a file of an earlier version
    gets its changes when it is opened to write to. `shown` contains such versions, each with the temporary views by
    which a reader of an earlier file has the new columns: readers change no file.
    """

    application: int
    tables: str
    later: tuple[str, ...] = ()
    shown: tuple[tuple[int, str], ...] = ()

    @property
    def version(self) -> int:
        """The version of a file that has all tables."""
        return 1 + len(self.later)


class DamagedFileError(Exception):
    """A file of the store that is damaged, or no such file."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


def open_database(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open a file to write to, and make it if it is missing: only this user can read it, and only once it has tables.

    Readers do not stop the writer. After a crash of the host the file holds all but the last transactions.

    Raises:
        DamagedFileError: It is damaged, or another file.
        SettingsError: A later version of dnstrail made it.
        OSError, sqlite3.Error: It cannot be made or opened.
    """
    if not path.exists():
        new = path.with_name(path.name + _BEGUN)
        new.unlink(missing_ok=True)
        for one in (new, path):
            remove_logs(one)  # SQLite would add what they hold to the new file
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFELY, 0o600))
        _checked(new, schema, connect(new, "rw"), make=True).close()
        new.rename(path)
    return _checked(path, schema, connect(path, "rw"), make=True)


def open_existing(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open a file that exists to write to.

    Raises:
        DamagedFileError: It is damaged, or another file.
        SettingsError: A later version of dnstrail made it.
        sqlite3.Error: It cannot be opened.
    """
    return _checked(path, schema, connect(path, "rw"))


def open_reader(path: Path, schema: Schema, *, final: bool, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a file to read; nobody writes to a final one any more. `patience` is the time (s) for a lock on another one.

    Raises:
        DamagedFileError: It is damaged, or another file.
        SettingsError: A later version of dnstrail made it.
        sqlite3.Error: It cannot be opened.
    """
    return _checked(path, schema, connect(path, "ro&immutable=1" if final else "ro", patience), writes=False)


def connect(path: Path, mode: str, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a file as it is: `mode` is that of SQLite's URIs, and `patience` the time (s) for a lock of another process.

    Raises:
        sqlite3.Error: It cannot be opened; the text names it.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(uri, timeout=patience, isolation_level=None, uri=True)
    except sqlite3.Error as error:
        error.args = (f"{path}: {error}",)
        raise


def is_forbidden(path: Path) -> bool:
    """Return whether a file exists that this user may not read."""
    return path.exists() and not os.access(path, os.R_OK)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Write all of a block, or nothing.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def remove_logs(path: Path) -> None:
    """Remove the logs of a file that is gone, or is not used any more.

    Raises:
        OSError: One cannot be removed.
    """
    for ending in _LOGS:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def is_damaged(error: sqlite3.Error) -> bool:
    """Return whether an error states that the file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGED or str(error).startswith(_NO_VALUE)


def is_locked(error: sqlite3.Error) -> bool:
    """Return whether an error states that another process held a lock for too long."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _LOCKED


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Name the file whose contents are read in an error that states that it is damaged.

    SQLite does not notice a byte that was changed within a value.

    Raises:
        DamagedFileError: It is damaged.
        sqlite3.Error: It cannot be read or written.
    """
    try:
        with naming_damaged_file(path):
            yield
    except BAD_CONTENTS as error:
        raise DamagedFileError(path, repr(error)) from error


@contextmanager
def naming_damaged_file(path: Path) -> Iterator[None]:
    """Name the file in an error of SQLite that states that it is damaged.

    Raises:
        DamagedFileError: It is damaged.
        sqlite3.Error: It cannot be read or written.
    """
    try:
        yield
    except sqlite3.Error as error:
        if is_damaged(error):
            raise DamagedFileError(path, str(error)) from error
        raise


def check(database: sqlite3.Connection, path: Path) -> None:
    """Read a whole file.

    Raises:
        DamagedFileError: It is damaged.
        sqlite3.Error: It cannot be read.
    """
    with naming_damage(path):
        [found] = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DamagedFileError(path, str(found))


def _checked(
    path: Path, schema: Schema, database: sqlite3.Connection, *, make: bool = False, writes: bool = True
) -> sqlite3.Connection:
    try:
        with naming_damage(path):
            _check_kind(path, schema, database, make=make, writes=writes)
            if make:
                database.executescript(_DURABLE)
    except BaseException:
        database.close()
        raise
    return database


def _check_kind(path: Path, schema: Schema, database: sqlite3.Connection, *, make: bool, writes: bool) -> None:
    [application], [version] = (
        database.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    if make and database.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        database.executescript(
            f"BEGIN; PRAGMA application_id={schema.application}; PRAGMA user_version=1; {schema.tables}; COMMIT"
        )
        version = 1
    elif application != schema.application or version < 1:
        raise DamagedFileError(path, "it is another file")
    elif version > schema.version:
        raise SettingsError(f"{path}: a later version of dnstrail made it: use that version, or another folder")
    if writes:
        for number, tables in enumerate(schema.later[version - 1 :], version + 1):
            database.executescript(f"BEGIN; {tables}; PRAGMA user_version={number}; COMMIT")
    else:
        for number, views in schema.shown:
            if version < number:
                database.executescript(views)
