"""The state of a sender on disk: its position in the history, and the totals of its rows, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
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
)
# It is cheaper than to replace the row.
_STORE: Final = """
    INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET first = excluded.first,
        last = excluded.last, "end" = excluded."end", count = excluded.count, gaps = excluded.gaps,
        doubted = excluded.doubted, sent = excluded.sent, due = excluded.due, used = excluded.used,
        sent_use = excluded.sent_use"""
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
                return [_row(*one) for one in self._database.execute("SELECT * FROM rows")]
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise SettingsError(f"{self._path}: {error}: move it away: what is known is sent again") from error

    def save(
        self, position: SpoolPosition, dropped: int, changed: Iterable[RowTotals], gone: Iterable[RowTotals]
    ) -> None:
        """Store the position and the rows that changed.

        Raises:
            SettingsError: The file is damaged.
            sqlite3.Error: It cannot be written now.
        """
        database = self._database
        with naming_file(self._path), transaction(database):
            database.executemany("DELETE FROM rows WHERE key = ? AND day = ?", ((_PACK(r.key), r.day) for r in gone))
            database.executemany(_STORE, map(_columns, changed))
            database.execute("REPLACE INTO position VALUES (1, ?, ?)", (_PACK(position), dropped))
        self.position, self.dropped = position, dropped

    def close(self) -> None:
        """Close the file, and let another process use the folder."""
        with closing(self._private), closing(self._database):
            pass


def _columns(row: RowTotals) -> tuple[Any, ...]:
    totals = row.first, row.last, row.end, row.count, row.gaps, row.doubted
    return _PACK(row.key), row.day, *totals, row.sent, row.due, row.used, row.sent_use


def _row(key: bytes, day: int, *others: Any) -> RowTotals:
    row = RowTotals(_KEY(key), int(day))
    row.first, row.last, row.end, row.count, row.gaps, row.doubted, row.sent, row.due, row.used, row.sent_use = others
    return row
