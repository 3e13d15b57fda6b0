"""The files of SQLite of the fleet: each has a kind and a version, and a later version is refused."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dnstrail.errors import SettingsError
from dnstrail.history.database import connect, transaction
from dnstrail.process.private_folder import SAFELY


def open_file(path: Path, kind: int, versions: Sequence[str]) -> sqlite3.Connection:
    """Open a file to read and write, and make it if it is missing. `versions` are the steps from each to the next.

    Raises:
        SettingsError: It is another or a damaged file, or a later version of dnstrail made it.
        OSError, sqlite3.Error: It cannot be made or opened now.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | SAFELY, 0o600))
    database = connect(path, "rw")
    try:
        with naming_file(path):
            database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA trusted_schema=OFF")
            with transaction(database):
                _update(path, database, kind, versions)
    except BaseException:
        database.close()
        raise
    return database


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file that a worker of this process made.

    Raises:
        sqlite3.Error: It cannot be opened now.
    """
    return connect(path, "ro")


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Name a file that is damaged, with the remedy.

    Raises:
        SettingsError: It is damaged, or no such file.
        sqlite3.Error: It cannot be read or written now.
    """
    try:
        yield
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise SettingsError(f"{path}: {error}: move it away, or restore it from a copy") from error


def _update(path: Path, database: sqlite3.Connection, kind: int, versions: Sequence[str]) -> None:
    [found], [version] = (database.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    is_new = database.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    if not is_new and found != kind:
        raise SettingsError(f"{path}: it is another file: name another folder")
    if version > len(versions):
        raise SettingsError(f"{path}: a later version of dnstrail made it: use that version, or another folder")
    for step in versions[version:]:
        for statement in _statements(step):
            database.execute(statement)
    database.execute(f"PRAGMA application_id={kind}")
    database.execute(f"PRAGMA user_version={len(versions)}")


def _statements(step: str) -> Iterator[str]:
    """Yield the statements of a step: a trigger contains further ones."""
    statement = ""
    for part in step.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
