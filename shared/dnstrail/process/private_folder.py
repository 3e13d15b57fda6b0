"""A folder that one process uses alone, and that no other user can write to."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.errors import SettingsError

SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW  # flags to open a file of the folder


class PrivateFolder(NamedTuple):
    """A folder that is opened and locked. The descriptor stays that of the folder, also if somebody replaces it."""

    descriptor: int
    lock: int

    def close(self) -> None:
        """Let another process use the folder."""
        os.close(self.lock)
        os.close(self.descriptor)


def open_private(folder: Path, name: str) -> PrivateFolder:
    """Make a folder, check that nobody else can write to it, and lock it. `name` names its use in errors.

    Raises:
        SettingsError: The folder cannot be made, is not private, or is in use.
    """
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | SAFELY)
    except OSError as error:
        raise SettingsError(f"{name} {folder}: {error.strerror}") from error
    try:
        return PrivateFolder(opened, _locked(folder, opened, name))
    except SettingsError:
        os.close(opened)
        raise


def _locked(folder: Path, opened: int, name: str) -> int:
    found = os.fstat(opened)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{name} {folder}: it is no folder that this user alone can write to")
    try:
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | SAFELY, 0o600, dir_fd=opened)
    except OSError as error:
        raise SettingsError(f"{name} {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SettingsError(f"{name} {folder}: it is in use: another process has locked it") from error
    return lock
