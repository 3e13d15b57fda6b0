"""The user without rights that workers become: the caller of sudo, the user `dnstrail`, or an id that nobody has.

It is never `nobody`: another process of nobody could read the sockets and end the workers.
"""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.errors import SettingsError

SERVICE_USER = "dnstrail"  # the system user of the cache, and the group whose members may use the sockets
_WORKERS = ("probe", "signatures", "findings", "history")  # whose units and containers have users of their own
UNIT_USERS = (SERVICE_USER, *(f"{SERVICE_USER}-{worker}" for worker in _WORKERS))
_SUDO_UID = "SUDO_UID"  #: variable: user for the unprivileged workers, with `SUDO_GID`; sudo sets them
_SUDO_GID = "SUDO_GID"
_NO_ID = (1 << 32) - 1  # stands for "no change": setuid(2)
UNUSED_IDS = range(60_706, 61_184)  # systemd, distributions and container managers assign none of them


class User(NamedTuple):
    """A user and a group by their ids."""

    uid: int
    gid: int


def caller_of_sudo() -> User | None:
    """Return the user who called sudo, or None."""
    user = parse_user(os.environ.get(_SUDO_UID, ""), os.environ.get(_SUDO_GID, ""))
    return user if user and user.uid else None


def parse_user(uid: str, gid: str) -> User | None:
    """Return the user with these ids in decimal digits, or None if one of them is no id."""
    if not (_is_id(uid) and _is_id(gid)):
        return None
    return User(int(uid), int(gid))


def service_user() -> User:
    """Return the user `dnstrail`, else one that nothing else uses.

    Raises:
        SettingsError: all of the reserved ids are in use.
    """
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return _unused_user()
    return User(service.pw_uid, service.pw_gid)


def service_ids() -> frozenset[int]:
    """Return the ids that workers have: root, this user, those of the units, and those that only root can take on."""
    named = set[int]()
    for name in UNIT_USERS:
        with suppress(KeyError):  # this host has no such user
            named.add(pwd.getpwnam(name).pw_uid)
    return frozenset({0, os.geteuid(), *named, *UNUSED_IDS})


def user_of(uid: int) -> User:
    """Return a user with its group; an id without an entry has a group of the same number."""
    try:
        return User(uid, pwd.getpwuid(uid).pw_gid)
    except KeyError:
        return User(uid, uid)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(_NO_ID)) and int(text) < _NO_ID


def _unused_user() -> User:
    """Return the first of the reserved ids that is in no passwd or group entry, and that no process has."""
    running = _ids_of_processes()
    for number in UNUSED_IDS:
        if number not in running and not _has_entry(number):
            return User(number, number)
    first, last = UNUSED_IDS[0], UNUSED_IDS[-1]
    raise SettingsError(f"every user id from {first} to {last} is in use: add a system user {SERVICE_USER}")


def _has_entry(number: int) -> bool:
    """Return whether a user or a group has an id."""
    for entry_of in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            entry_of(number)
            return True
    return False


def _ids_of_processes() -> set[int]:
    """Return the ids of users and groups that the processes of this host have."""
    ids: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # the process has ended
            for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(("Uid:", "Gid:", "Groups:")):
                    ids.update(map(int, line.split()[1:]))
    return ids
