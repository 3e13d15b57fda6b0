"""Folders of temporary files, which do not outlive a process that is killed for longer than until the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def temporary_folder(prefix: str, owners: Collection[int] = ()) -> Iterator[Path]:
    """Make a folder that only this user can open, and remove it at the end of the block.

    It is locked (flock(2)) as long as this process or a fork of it runs. Remove the unlocked folders with this prefix
    that belong to this user or to one of `owners`: their processes were killed.
    """
    _remove_abandoned(prefix, {os.geteuid(), *owners})
    folder, lock = _locked_folder(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(prefix: str) -> tuple[Path, int]:
    """Make a folder; return it with the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        with suppress(FileNotFoundError):  # another process took it for abandoned, before it was locked
            lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(prefix: str, owners: Collection[int]) -> None:
    """Remove the folders whose lock nobody holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # another user's, in use, or removed meanwhile
            if folder.lstat().st_uid not in owners:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
