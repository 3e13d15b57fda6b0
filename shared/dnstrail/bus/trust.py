"""Trust in the folder of a socket: who may put a socket there answers our lookups (docs/inside/trust.md).

A client believes a folder of root, of the service user, or of its own user, in which nobody else can replace a socket.
The owner of a folder cannot be forged, so that no peer has to prove who it is. Workers that root starts give their
folder to their user. A folder of a reserved id is therefore believed: only root can have given it away. Some
folders are believed whoever owns them: /run/dnstrail, /run/dnstrail-fleet, and for root any folder in a place where
only root can make one.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dnstrail.users import SERVICE_USER, UNUSED_IDS, User, caller_of_sudo

RUN_DIR_OF_HOST = Path("/run/dnstrail")
RUN_DIR_OF_FLEET = Path("/run/dnstrail-fleet")  # of the unit of the store

FolderState = tuple[int, int, int]  # device, inode, and the time of the last change


def folder_state(folder: Path) -> FolderState | None:
    """Return a value that differs for another folder, and for the same one after a change; None without a folder."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def distrust(folder: Path) -> str:
    """Return why this process must not believe a socket in a folder, or "" if it may."""
    try:
        folder.resolve(strict=True)
    except OSError as error:  # it is missing, or out of reach
        return f"{folder}: {error.strerror}"
    return distrust_of(User(os.geteuid(), os.getegid()), folder)


def distrust_of(user: User, folder: Path) -> str:
    """Return why a user must not believe a socket in a folder that exists or is to be made, or ""."""
    try:
        return next(_faults(user, folder), "")
    except OSError as error:
        return f"{folder}: {error.strerror}"


def trusted_users() -> set[int]:
    """Return the ids of root, of this user, of the service user, and for root of the caller of sudo."""
    return _trusted_by(os.geteuid())


def _trusted_by(uid: int) -> set[int]:
    users, caller = {0, uid}, caller_of_sudo()
    if uid == 0 and caller is not None:
        users.add(caller.uid)
    with suppress(KeyError):  # most hosts have no service user
        users.add(pwd.getpwnam(SERVICE_USER).pw_uid)
    return users


def _faults(user: User, folder: Path) -> Iterator[str]:
    """Yield what speaks against the folder, and against all above it: where it really is, and as it was named."""
    trusted, real, named = _trusted_by(user.uid), folder.resolve(), folder.absolute()
    for place in dict.fromkeys((real, *real.parents, named, *named.parents)):
        try:
            status = place.lstat()
        except FileNotFoundError:
            continue
        known = status.st_uid in trusted or status.st_uid in UNUSED_IDS
        if not known and not (place == real and _only_root_makes(real, user)):
            yield f"{place} belongs to user {status.st_uid}"
        if _is_open(status, user, sticky_suffices=place != real):
            yield f"others may write to {place}"


def _only_root_makes(real: Path, user: User) -> bool:
    """Return whether root alone can have made a folder, and given it to its present owner."""
    above = real.parent.lstat()
    known = os.geteuid() == 0 or real in (RUN_DIR_OF_HOST, RUN_DIR_OF_FLEET)
    return known and above.st_uid == 0 and not _is_open(above, user, sticky_suffices=False)


def _is_open(status: os.stat_result, user: User, *, sticky_suffices: bool) -> bool:
    """Return whether others than a user may put or replace something in a folder."""
    if stat.S_ISLNK(status.st_mode) or (sticky_suffices and status.st_mode & stat.S_ISVTX):
        return False
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in (0, user.gid)
    return bool(status.st_mode & stat.S_IWOTH or by_group)
