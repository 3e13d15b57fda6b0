"""The names and homes of this host's users, from its file /etc/passwd (passwd(5))."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.regular_file import read_regular

# The root of process 1 is the host's: a container of the probe has another file at the usual place.
_PASSWD = Path("/proc/1/root/etc/passwd")
_MOST_BYTES = 1 << 20  #: bytes of /etc/passwd -> beyond them user units begin with the number of the user
_NAME = re.compile(r"(?!\d+\Z)[A-Za-z0-9_.][A-Za-z0-9_.@$-]{0,63}", re.ASCII)  # a number could be another user's id


class Account(NamedTuple):
    """The id and the home of a user."""

    uid: int
    home: str


class UserNames:
    """The names of users by their ids, and their accounts by name. A change of the file is noticed at the next look-up.

    NSS is not asked: it can wait for a directory on the network. A user without a name here has its number.
    """

    def __init__(self, path: Path = _PASSWD) -> None:
        self._path = path
        self._read_at: tuple[int, ...] = ()
        self._names: dict[int, str] = {}
        self._accounts: dict[str, Account] = {}

    def of(self, uid: int) -> str:
        """Return the name of a user, else the number."""
        self._refresh()
        return self._names.get(uid, str(uid))

    def account(self, name: str) -> Account | None:
        """Return the account of a user by name; None without an entry."""
        self._refresh()
        return self._accounts.get(name)

    def _refresh(self) -> None:
        stamp: tuple[int, ...] = ()
        with suppress(OSError):
            status = self._path.stat()
            stamp = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
        if stamp != self._read_at:
            found = _read(self._path) if stamp else {}
            self._names = {uid: name for uid, (name, _) in found.items()}
            self._accounts = {name: Account(uid, home) for uid, (name, home) in reversed(found.items())}
            self._read_at = stamp


def _read(path: Path) -> dict[int, tuple[str, str]]:
    """Return the names and homes of a file by user id; the first line of an id counts."""
    found: dict[int, tuple[str, str]] = {}
    try:
        lines = read_regular(path, _MOST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, uid, _, _, home, *_ = [*line.split(":", 6), *[""] * 6]
        if _NAME.fullmatch(name) and uid.isascii() and uid.isdigit() and len(uid) <= len(str(1 << 32)):
            found.setdefault(int(uid), (name, home))
    return found
