"""The claims of signatures: which event was the first one of a subject, such as a domain."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dnstrail_fleet.files import open_file
from dnstrail_fleet.row import DAY

NAME: Final = "claims.db"
#: subjects that signatures claimed -> those of the host with the most, asked about least recently, are forgotten
MOST_CLAIMS: Final = 1_048_576
#: seconds since a subject was asked about -> it is forgotten
KEPT: Final = 400 * DAY
_CLEAN: Final = 1_024  # new claims between two looks at their number
_PATIENCE: Final = 200  # ms for the lock of another store
_KIND: Final = 0x444E5343 + 0x100
_VERSIONS: Final = (
    """
    CREATE TABLE claims (signature TEXT, subject TEXT, event TEXT, host TEXT, at INTEGER,
        PRIMARY KEY (signature, subject));
    CREATE INDEX claims_by_host ON claims (host, at)
    """,
)
_FIND: Final = "SELECT event, at FROM claims WHERE signature = ? AND subject = ?"
_ADD: Final = "INSERT INTO claims VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_RENEW: Final = "UPDATE claims SET at = ? WHERE signature = ? AND subject = ?"
_FORGET_OLD: Final = "DELETE FROM claims WHERE at < ?"
_FORGET: Final = """
    DELETE FROM claims WHERE rowid IN
        (SELECT rowid FROM claims WHERE host = (SELECT host FROM claims GROUP BY host ORDER BY count(*) DESC LIMIT 1)
        ORDER BY at LIMIT ?)"""


class ClaimStore:
    """The claims in a file beside the rows. Several processes may use it. An event that comes again keeps its claim."""

    def __init__(self, folder: Path, *, most: int = MOST_CLAIMS) -> None:
        """Open it, or make it.

        Raises:
            SettingsError: It is damaged, or a later version of dnstrail made it.
            OSError, sqlite3.Error: It cannot be made or opened now.
        """
        self._most = most
        self._until_clean = 0
        self._database = open_file(folder / NAME, _KIND, _VERSIONS)
        self._database.execute(f"PRAGMA busy_timeout={_PATIENCE}")

    def claim(self, signature: str, subject: str, event: str, now: float) -> bool:
        """Claim a subject for an event at a time (seconds since the epoch); return whether it is the first one.

        The id of an event begins with its host and a slash.

        Raises:
            sqlite3.Error: It cannot be written now.
        """
        if (found := self._find(signature, subject)) is None:
            self._clean(now)
            self._database.execute(_ADD, (signature, subject, event, event.partition("/")[0], int(now)))
            found = self._find(signature, subject) or (event, now)
        elif now - found[1] > DAY:
            self._database.execute(_RENEW, (int(now), signature, subject))
        return found[0] == event

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _find(self, signature: str, subject: str) -> tuple[str, float] | None:
        found: tuple[str, float] | None = self._database.execute(_FIND, (signature, subject)).fetchone()
        return found

    def _clean(self, now: float) -> None:
        if not self._until_clean:
            self._database.execute(_FORGET_OLD, (int(now) - KEPT,))
            [count] = self._database.execute("SELECT count(*) FROM claims").fetchone()
            if count > self._most:
                self._database.execute(_FORGET, (count - self._most,))
            self._until_clean = min(_CLEAN, self._most)
        self._until_clean -= 1
