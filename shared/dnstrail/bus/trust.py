"""Trust in the folder of a socket: who may put a socket there answers the lookups of this process (docs/operations.md).

A client believes a folder of root, of the service user, or of its own user, in which nobody else can replace a socket.
The owner of a folder cannot be forged, so that no peer has to prove who it is. An all-in-one run of root gives its
folder to the user of its workers. Two folders are therefore believed whoever owns them: /run/dnstrail, and for root any
folder in a place where only root can make one.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

RUN_DIR_OF_HOST = Path("/run/dnstrail")
SERVICE_USER = "dnstrail"

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
        return next(_faults(folder), "")
    except OSError as error:  # it is missing, or out of reach
        return f"{folder}: {error.strerror}"


def trusted_users() -> set[int]:
    """Return the ids of root, of this user, of the service user, and for root of the caller of sudo."""
    users, caller = {0, os.geteuid()}, os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isascii() and caller.isdigit():
        users.add(int(caller))
    with suppress(KeyError):  # most hosts have no service user
        users.add(pwd.getpwnam(SERVICE_USER).pw_uid)
    return users


def _faults(folder: Path) -> Iterator[str]:
    """Yield what speaks against the folder, and against all above it: where it really is, and as it was named."""
    trusted, real, named = trusted_users(), folder.resolve(strict=True), folder.absolute()
    for place in dict.fromkeys((real, *real.parents, named, *named.parents)):
        status = place.lstat()
        if status.st_uid not in trusted and not (place == real and _only_root_makes(real)):
            yield f"{place} belongs to user {status.st_uid}"
        if _is_open(status, sticky_suffices=place != real):
            yield f"others may write to {place}"


def _only_root_makes(real: Path) -> bool:
    """Return whether root alone can have made a folder, and given it to its present owner."""
    above = real.parent.lstat()
    known = os.geteuid() == 0 or real == RUN_DIR_OF_HOST
    return known and above.st_uid == 0 and not _is_open(above, sticky_suffices=False)


def _is_open(status: os.stat_result, *, sticky_suffices: bool) -> bool:
    """Return whether others may put or replace something in a folder."""
    if stat.S_ISLNK(status.st_mode) or (sticky_suffices and status.st_mode & stat.S_ISVTX):
        return False
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid())
    return bool(status.st_mode & stat.S_IWOTH or by_group)
