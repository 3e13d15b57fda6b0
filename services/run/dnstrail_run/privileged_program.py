"""Programs whose files give rights to whoever runs them: set-id programs, and those with file capabilities."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

_PATIENCE = 1.0  # seconds for all files: one may lie on a file system that hangs
_CAPABILITIES = "security.capability"  # the extended attribute: capabilities(7)


class Executed(NamedTuple):
    """A program that the command ran: its path, in a mount namespace (inode of /proc/PID/ns/mnt), and its user."""

    path: str
    user: int
    mount_namespace: int


def first_privileged(programs: Iterable[Executed], namespaces: Collection[int]) -> str:
    """Return the path of the first program whose file gives rights that its user lacks, "" if none is found.

    Only files of these mount namespaces are found: those of this process and of the command have the same files.
    """
    found: list[str] = []

    def find() -> None:
        of_own = (one for one in programs if one.mount_namespace in namespaces)
        found.extend(one.path for one in of_own if _gives_rights(one.path, one.user))

    finding = threading.Thread(target=find, daemon=True)
    finding.start()
    finding.join(_PATIENCE)
    return found[0] if found else ""


def _gives_rights(path: str, user: int) -> bool:
    """Return whether a file gives rights to a user; root has all of them already."""
    try:
        file = Path(path).stat()
        if not user or os.statvfs(path).f_flag & os.ST_NOSUID:
            return False
        if _CAPABILITIES in os.listxattr(path):
            return True
    except OSError:  # removed meanwhile, or this user may not find it
        return False
    of_user = file.st_mode & stat.S_ISUID and file.st_uid != user
    of_group = file.st_mode & stat.S_ISGID and file.st_mode & stat.S_IXGRP
    return bool(of_user or of_group)
