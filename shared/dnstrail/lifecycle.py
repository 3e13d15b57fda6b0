"""How a worker process ends: on SIGINT and SIGTERM, and with the process that started it."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import dns.rdata

from dnstrail.capabilities import missing_capabilities
from dnstrail.errors import SettingsError
from dnstrail.names import lookup_key

_PR_SET_PDEATHSIG = 1
PARENT = "DNSTRAIL_PARENT"  # set by a parent whose workers shall not outlive it: its process id


class User(NamedTuple):
    """A user and a group by their ids."""

    uid: int
    gid: int


def calling_user() -> User | None:
    """Whom to be without privileges: who called sudo, else nobody; None where we cannot become anybody else."""
    if missing_capabilities("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"):
        return None
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if uid.isdigit() and gid.isdigit() and int(uid):
        return User(int(uid), int(gid))
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def drop_privileges(user: User | None, run_dir: Path) -> None:
    """Become a user for good; what libraries would import later is imported first. None: stay who we are.

    Raises:
        SettingsError: the change is refused, or that user could not reach the sockets.
    """
    if user is None:
        return
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call] # dnspython has no types for it
    lookup_key("\u00fc.example")  # the codecs of IDNA
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except PermissionError as error:
        raise SettingsError(f"cannot become user {user.uid}: only root can") from error
    if not os.access(run_dir, os.R_OK | os.X_OK):
        raise SettingsError(f"user {user.uid} cannot reach {run_dir}: choose another folder with --run-dir")
    _end_with_parent()  # the kernel forgot it with the old user


def stop_on_signals() -> threading.Event:
    """The stop signal of this process: set on SIGINT and SIGTERM, and when a parent that asked for it dies."""
    stop = threading.Event()

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.is_set():  # asked twice: at once
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    if not _end_with_parent():
        stop.set()
    return stop


def _end_with_parent() -> bool:
    """Ask for SIGTERM when the parent dies, if it wants that; False if it has died already."""
    parent = os.environ.get(PARENT)
    if parent is None or not parent.isdigit():
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == int(parent)
