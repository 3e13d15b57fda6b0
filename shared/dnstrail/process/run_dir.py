"""The run-dir of workers that root starts: it belongs to the user that they become."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnstrail.bus.ipc import group_id
from dnstrail.bus.trust import distrust_of
from dnstrail.errors import BusError
from dnstrail.process.privileges import may_change_user
from dnstrail.users import User, service_user, user_of

_OURS = ".sock", ".lock", ".link", ".mutes"  # the endings of the names of files in a run-dir
_ANOTHER = "choose another folder with --run-dir"


def check_run_dir(run_dir: Path, user: User | None) -> None:
    """Refuse a folder, present or to be made, whose sockets a user must not believe; None is the present user.

    Raises:
        BusError: somebody else may put or replace something in the folder, or in one above it.
    """
    fault = distrust_of(user or User(os.geteuid(), os.getegid()), run_dir)
    if fault:
        raise BusError(str(run_dir), f"{fault}: {_ANOTHER}")


def hand_over(run_dir: Path, user: User) -> None:
    """Give the folder of the sockets to the user of the workers.

    Raises:
        BusError: the folder is not safe, cannot be made, contains other files, or belongs to a running pipeline.
    """
    with _refused(run_dir):
        _make(run_dir, user)
        _remove_stale_locks(run_dir, user)  # first: the folder of a running pipeline must not change hands
        if run_dir.stat().st_uid != user.uid:
            _change_owner(run_dir, user)


def user_of_worker(given: User | None, run_dir: Path) -> User | None:
    """Return the user that a worker started alone becomes, and make its folder; None: the worker keeps its user.

    It is the user given, else for root the owner of the folder. A folder of root is given to the user given, else to
    the user `dnstrail`, else to a user that nothing else uses.

    Raises:
        BusError: the folder is not safe, cannot be made, or contains other files.
        SettingsError: no id is left for a user.
    """
    if os.geteuid() or not may_change_user():
        return given
    with _refused(run_dir):
        check_run_dir(run_dir, given)
        owner = run_dir.stat().st_uid if run_dir.exists() else 0
        user = given or (user_of(owner) if owner else service_user())
        _make(run_dir, user)
        if owner := run_dir.stat().st_uid:  # another worker may have given it away in the meantime
            return given or user_of(owner)
        _change_owner(run_dir, user)
        return user


@contextmanager
def _refused(run_dir: Path) -> Iterator[None]:
    """Report what the system refuses as an error of the folder."""
    try:
        yield
    except OSError as error:
        raise BusError(str(run_dir), f"{error.strerror}: {_ANOTHER}") from error


def _make(run_dir: Path, user: User) -> None:
    check_run_dir(run_dir, user)
    run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    check_run_dir(run_dir, user)  # somebody may have made it in the meantime


def _change_owner(run_dir: Path, user: User) -> None:
    if any(entry.suffix not in _OURS for entry in run_dir.iterdir()):
        raise BusError(str(run_dir), "contains files that are no sockets: choose an empty folder with --run-dir")
    group = group_id()
    for entry in run_dir.iterdir() if run_dir.stat().st_uid == 0 else ():  # only root can have made these
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
            raise BusError(str(run_dir), f"another dnstrail serves here: {_ANOTHER}") from error
        finally:
            os.close(descriptor)
