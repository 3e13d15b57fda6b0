"""Files that are read as a whole: regular ones of a bounded size, so that none blocks or fills the memory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path


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
