"""The state of a sender on disk: its position in the history, and the totals of its rows, in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.history.database import transaction
from dnstrail.history.following import SpoolPosition
from dnstrail.process.private_folder import open_private
from dnstrail_fleet.files import naming_file, open_file
from dnstrail_fleet.sender.totals import RowKey, RowTotals

_KIND: Final = 0x444E5353
_VERSIONS: Final = (
    """
    CREATE TABLE position (id INTEGER PRIMARY KEY, packed BLOB, dropped INTEGER);
    CREATE TABLE rows (key BLOB, day INTEGER, first INTEGER, last INTEGER, "end" INTEGER, count INTEGER, gaps INTEGER,
        doubted INTEGER, sent REAL, waits INTEGER, PRIMARY KEY (key, day)) WITHOUT ROWID
    """,
    """
    ALTER TABLE rows RENAME COLUMN waits TO due;
    UPDATE rows SET due = iif(due, sent + 900.0, NULL);
    ALTER TABLE rows ADD COLUMN used INTEGER DEFAULT 0;
    ALTER TABLE rows ADD COLUMN sent_use INTEGER DEFAULT 0
    """,
    """
    ALTER TABLE rows RENAME TO keyed;
    CREATE TABLE rows (id INTEGER PRIMARY KEY, key BLOB, day INTEGER, first INTEGER, last INTEGER, "end" INTEGER,
        count INTEGER, gaps INTEGER, doubted INTEGER, sent REAL, due REAL, used INTEGER, sent_use INTEGER);
    INSERT INTO rows SELECT NULL, * FROM keyed;
    DROP TABLE keyed
    """,
)
_ADD: Final = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# It costs half as much as an upsert by the key.
_STORE: Final = """
    UPDATE rows SET first = ?, last = ?, "end" = ?, count = ?, gaps = ?, doubted = ?, sent = ?, due = ?, used = ?,
        sent_use = ? WHERE id = ?"""
_PACK = msgspec.msgpack.Encoder().encode
_KEY = msgspec.msgpack.Decoder(RowKey).decode
_POSITION = msgspec.msgpack.Decoder(SpoolPosition).decode


class SenderState:
    """The file of a sender, in a folder that one process uses alone. `dropped` counts segments that were not read."""

    def __init__(self, folder: Path) -> None:
        """Open it, or make it.

        Raises:
            SettingsError: The folder is not private, or in use, or the file is damaged.
            OSError, sqlite3.Error: It cannot be opened now.
        """
        self._private = open_private(folder, "--folder")
        self._path = folder / "sender.db"
        try:
            self._database = open_file(self._path, _KIND, _VERSIONS)
        except BaseException:
            self._private.close()
            raise
        self.position = SpoolPosition()
        self.dropped = 0
        self._last = 0  # the highest number of a row

    def load(self) -> list[RowTotals]:
        """Read the position, and return the rows.

        Raises:
            SettingsError: The file is damaged.
            sqlite3.Error: It cannot be read now.
        """
        try:
            with naming_file(self._path):
                found = self._database.execute("SELECT packed, dropped FROM position").fetchone()
                if found is not None:
                    self.position, self.dropped = _POSITION(found[0]), int(found[1])
                rows = [_row(*one) for one in self._database.execute("SELECT * FROM rows")]
                self._last = max((row.number for row in rows), default=0)
                return rows
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise SettingsError(f"{self._path}: {error}: move it away: what is known is sent again") from error

    def save(
        self, position: SpoolPosition, dropped: int, changed: Collection[RowTotals], gone: Collection[RowTotals]
    ) -> None:
        """Store the position and the rows that changed.

        Raises:
            SettingsError: The file is damaged.
            sqlite3.Error: It cannot be written now.
        """
        database = self._database
        known = [row for row in changed if row.number]
        new = [*enumerate((row for row in changed if not row.number), self._last + 1)]
        with naming_file(self._path), transaction(database):
            database.executemany("DELETE FROM rows WHERE id = ?", ((row.number,) for row in gone))
            database.executemany(_STORE, ((*_totals(row), row.number) for row in known))
            added = ((number, _PACK(row.key), row.day, *_totals(row)) for number, row in new)
            database.executemany(_ADD, added)
            database.execute("REPLACE INTO position VALUES (1, ?, ?)", (_PACK(position), dropped))
        for number, row in new:
            row.number = self._last = number
        self.position, self.dropped = position, dropped

    def close(self) -> None:
        """Close the file, and let another process use the folder."""
        with closing(self._private), closing(self._database):
            pass


def _totals(row: RowTotals) -> tuple[Any, ...]:
    totals = row.first, row.last, row.end, row.count, row.gaps, row.doubted
    return *totals, row.sent, row.due, row.used, row.sent_use


def _row(number: int, key: bytes, day: int, first: int, *others: Any) -> RowTotals:
    row = RowTotals(_KEY(key), int(day), int(first))
    row.number = number
    row.last, row.end, row.count, row.gaps, row.doubted, row.sent, row.due, row.used, row.sent_use = others
    return row
