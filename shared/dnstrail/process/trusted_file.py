"""Files that decide what a worker does: nobody but root and the users of the worker may have written them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_regular

#: bytes of a settings file, or of a signature file; neither may be a pipe or a device -> it is refused
MOST_BYTES = 16 << 20


def read_trusted(path: Path, kind: str, owners: Iterable[int] = ()) -> bytes:
    """Return the content of a file, which only root, this user and the `owners` may write or replace.

    `kind` names it in errors.

    Raises:
        SettingsError: the file cannot be read, or others may write or replace it.
    """
    owning = {0, os.geteuid(), *owners}

    def check(status: os.stat_result) -> None:
        for place, found in [(path, status), *((folder, folder.stat()) for folder in _folders(path))]:
            if _others_may_write(found, owning):
                raise SettingsError(
                    f"{kind} {path}: others may write it or its folder; refused: {place} must belong to root or "
                    "to this user, and only its owner may write it"
                )

    try:
        return read_regular(path, MOST_BYTES, check)
    except OSError as error:
        raise SettingsError(f"{kind} {path}: {error.strerror}") from error


def _folders(path: Path) -> set[Path]:
    return {*path.absolute().parents, *path.resolve().parents}


def _others_may_write(status: os.stat_result, owners: set[int]) -> bool:
    """Return whether others may write a file, or replace one in a folder.

    In a sticky folder such as /tmp nobody can replace the file of another user.
    """
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return status.st_uid not in owners
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or status.st_uid not in owners
