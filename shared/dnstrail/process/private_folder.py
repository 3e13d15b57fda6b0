"""A folder that one process uses alone, and that no other user can write to."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.bus.trust import distrust_of
from dnstrail.errors import SettingsError
from dnstrail.users import User

SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW  # flags to open a file of the folder
_COPY = ".copy"  # the name of a file that is about to replace another one
_AT_ONCE = 1 << 30  # bytes that the kernel copies at once


class FolderInUseError(SettingsError):
    """Another process has locked the folder."""


class PrivateFolder(NamedTuple):
    """A folder that is opened and locked. The descriptor stays that of the folder, also if somebody replaces it."""

    descriptor: int
    lock: int

    def close(self) -> None:
        """Let another process use the folder."""
        os.close(self.lock)
        os.close(self.descriptor)


def hand_over_private(folder: Path, user: User | None, name: str) -> None:
    """Make a folder for a user, or give it to this user with its files; None is the present user.

    Raises:
        SettingsError: The folder cannot be made, is not safe, or is in use.
    """
    try:
        if fault := distrust_of(user or User(os.geteuid(), os.getegid()), folder):
            raise SettingsError(f"{name} {folder}: {fault}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | SAFELY)
    except OSError as error:
        raise SettingsError(f"{name} {folder}: {error.strerror}") from error
    try:
        if user is not None and os.fstat(opened).st_uid != user.uid:
            _change_owner(folder, opened, user, name)
    finally:
        os.close(opened)


def _change_owner(folder: Path, opened: int, user: User, name: str) -> None:
    """Give an open folder to a user, with its files; the lock first: a folder that is in use does not change hands.

    All files are checked before the first one changes hands. The user receives copies of the files of an owner who is
    not root: this owner may still have them open. Meanwhile the folder is root's, so that nobody exchanges a file.
    """
    former = os.fstat(opened)
    lock = _locked(folder, opened, name, former.st_uid)
    try:
        os.fchown(opened, os.geteuid(), os.getegid())
        try:
            with suppress(FileNotFoundError):
                os.unlink(_COPY, dir_fd=opened)
            for is_checked in (False, True):
                for entry in os.listdir(opened):
                    _give_file(folder, opened, entry, user if is_checked else None, name)
        except BaseException:
            os.fchown(opened, former.st_uid, former.st_gid)
            raise
        os.fchown(opened, user.uid, user.gid)
    except OSError as error:
        raise SettingsError(f"{name} {folder}: {error.strerror}") from error
    finally:
        os.close(lock)


def _give_file(folder: Path, opened: int, entry: str, user: User | None, name: str) -> None:
    """Give a file of an open folder to a user; without a user, only check it.

    Raises:
        SettingsError: It is no file of this folder alone.
        OSError: It cannot be given.
    """
    file = os.open(entry, os.O_RDONLY | os.O_NONBLOCK | SAFELY, dir_fd=opened)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # the former owner may have made a link
            raise SettingsError(f"{name} {folder}: {entry!r:.100} is no file of this folder alone")
        if user is None:
            return
        if found.st_uid != os.geteuid():
            _replace_by_copy(opened, entry, file, found)
            os.close(file)
            file = os.open(entry, os.O_RDONLY | SAFELY, dir_fd=opened)
        os.fchown(file, user.uid, user.gid)
    finally:
        os.close(file)


def _replace_by_copy(opened: int, entry: str, file: int, found: os.stat_result) -> None:
    """Put a copy of a file of an open folder in its place, with its times.

    Raises:
        OSError: It cannot be written.
    """
    copy = os.open(_COPY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=opened)
    try:
        while os.sendfile(copy, file, None, _AT_ONCE):
            pass
        os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(copy)
    finally:
        os.close(copy)
    os.rename(_COPY, entry, src_dir_fd=opened, dst_dir_fd=opened)


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
        return PrivateFolder(opened, _locked(folder, opened, name, os.geteuid()))
    except SettingsError:
        os.close(opened)
        raise


def _locked(folder: Path, opened: int, name: str, owner: int) -> int:
    found = os.fstat(opened)
    if found.st_uid != owner or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{name} {folder}: it is no folder that this user alone can write to")
    try:
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | SAFELY, 0o600, dir_fd=opened)
    except OSError as error:
        raise SettingsError(f"{name} {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise FolderInUseError(f"{name} {folder}: it is in use: another process has locked it") from error
    return lock
