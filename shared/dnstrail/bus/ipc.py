"""Unix sockets of the bus: where they lie, who may use them, and that only one process serves each."""

from __future__ import annotations

import fcntl
import grp
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnstrail.errors import BusError

RUN_DIR = "DNSTRAIL_RUN_DIR"
GROUP = "dnstrail"
_SCHEME = "ipc://"
_MAX_PATH = 107  # bytes in sun_path, unix(7)


def default_run_dir() -> Path:
    """Where the sockets of a host lie: /run/dnstrail for root, else below the user's runtime folder."""
    if configured := os.environ.get(RUN_DIR):
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/run/dnstrail")
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "dnstrail"
    return Path(tempfile.gettempdir()) / f"dnstrail-{os.geteuid()}"


def group_id() -> int:
    """The group that may use the sockets of this host, or -1 where there is none."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return -1


def events_address(run_dir: Path) -> str:
    """Where the probe of this folder publishes."""
    return f"{_SCHEME}{run_dir}/events.sock"


def lookups_address(run_dir: Path) -> str:
    """Where the cache of this folder answers."""
    return f"{_SCHEME}{run_dir}/lookups.sock"


def findings_address(run_dir: Path) -> str:
    """Where the signature workers of this folder send their findings."""
    return f"{_SCHEME}{run_dir}/findings.sock"


def socket_path(address: str) -> Path:
    """The path of an ipc address.

    Raises:
        BusError: another transport, or a path too long for a unix socket.
    """
    if address.startswith("tcp://"):
        raise BusError(address, "tcp without keys is refused: nothing said there would be safe; use ipc:///path")
    if not address.startswith(_SCHEME):
        raise BusError(address, "no bus address: write ipc:///path")
    path = address.removeprefix(_SCHEME)
    if len(os.fsencode(path)) > _MAX_PATH:
        raise BusError(address, f"longer than the {_MAX_PATH} bytes of a unix socket's path: use a shorter run-dir")
    return Path(path)


@contextmanager
def sole_server(address: str) -> Iterator[int]:
    """Around the bind of an ipc socket: make its folder, hold its lock, let user and group alone use it.

    Gives the locked descriptor: whoever serves keeps it open until the socket is closed.

    Raises:
        BusError: another process serves this address, or the folder cannot be used.
    """
    path = socket_path(address)
    lock = _lock(address, path)
    umask = os.umask(0o117)
    try:
        yield lock
    except BaseException:
        os.close(lock)
        raise
    finally:
        os.umask(umask)
    folder = path.parent.stat()
    with suppress(OSError):  # whoever owns the folder uses what is in it, whichever worker made it
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _lock(address: str, path: Path) -> int:
    try:
        make_folder(address, path.parent)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BusError(address, f"{error.strerror}: choose another folder with --run-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise BusError(address, "another dnstrail serves here: stop it, or use another --run-dir") from error
    return lock


def make_folder(address: str, folder: Path) -> None:
    """Make the folder of a socket, for the group, unless it is there.

    Raises:
        BusError: it is there, and somebody else's.
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with suppress(OSError):
            os.chown(folder, -1, group_id())
    status = folder.stat()
    others_may_write = bool(status.st_mode & stat.S_IWOTH) if os.geteuid() == 0 else True
    if status.st_uid not in (0, os.geteuid()) and others_may_write:
        raise BusError(address, f"{folder} belongs to somebody else: choose another folder with --run-dir")
