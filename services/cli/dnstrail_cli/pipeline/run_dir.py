"""The run-dir of a run as root: it belongs to the user of the unprivileged workers."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dnstrail.bus.ipc import group_id
from dnstrail.errors import BusError
from dnstrail.process.privileges import User


def hand_over(run_dir: Path, user: User) -> None:
    """Give the folder of the sockets to the user of the unprivileged workers.

    Raises:
        BusError: the folder cannot be made, contains anything except our sockets, or belongs to a running pipeline.
    """
    try:
        run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        _remove_stale_locks(run_dir, user)  # first: the folder of a running pipeline must not change hands
        owner = run_dir.stat().st_uid
        if owner != user.uid:
            _change_owner(run_dir, owner, user)
    except OSError as error:
        raise BusError(str(run_dir), f"{error.strerror}: choose another folder with --run-dir") from error


def _change_owner(run_dir: Path, owner: int, user: User) -> None:
    if any(entry.suffix not in (".sock", ".lock") for entry in run_dir.iterdir()):
        raise BusError(str(run_dir), "contains files that are no sockets: choose an empty folder with --run-dir")
    group = group_id()
    for entry in run_dir.iterdir() if owner == 0 else ():  # only root can have made these
        os.chown(entry, user.uid, user.gid, follow_symlinks=False)
    os.chown(run_dir, user.uid, user.gid if group < 0 else group)


def _remove_stale_locks(run_dir: Path, user: User) -> None:
    """Remove the locks that another user left behind: this user could not open them.

    Raises:
        BusError: a running process holds a lock.
    """
    for lock in run_dir.glob("*.lock"):
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_uid != user.uid:
                lock.unlink()
        except BlockingIOError as error:
            raise BusError(
                str(run_dir), "another dnstrail serves here: choose another folder with --run-dir"
            ) from error
        finally:
            os.close(descriptor)
