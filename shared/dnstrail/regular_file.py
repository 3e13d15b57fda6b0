"""Regular files of a bounded size, read as a whole; trusted ones: only root and the worker's users may write them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from dnstrail.errors import SettingsError

#: bytes of a settings file, or of a signature file; neither may be a pipe or a device -> it is refused
MOST_BYTES = 16 << 20


def read_regular(
    path: Path | str,
    most: int,
    check: Callable[[os.stat_result], None] = lambda _: None,
    *,
    links: bool = True,
    folder: int | None = None,
) -> bytes:
    """Return the content of a file of at most so many bytes.

    The file is opened once, without waiting for the writer of a pipe, so that the content is that of the file which was
    checked. `links`: the path may be a symbolic link. `folder` is the descriptor of the folder of a relative path.

    Raises:
        OSError: the file cannot be read, is not regular, or is longer; `check` may raise other errors.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        check(status)
        content = b""
        if status.st_size <= most:
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(most + 1)
        if max(status.st_size, len(content)) > most:
            raise OSError(errno.EFBIG, f"it is longer than {most} bytes")
        return content
    finally:
        os.close(descriptor)


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
                    f"to this user, and only its owner may write it: chmod go-w {place}"
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
