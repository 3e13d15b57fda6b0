"""Unix sockets of the bus: their folder, the users that may use them, and the one process that serves each."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnstrail.bus.tcp import host_of, is_tcp
from dnstrail.bus.trust import RUN_DIR_OF_FLEET, RUN_DIR_OF_HOST, distrust, trusted_users
from dnstrail.errors import BusError

RUN_DIR = "DNSTRAIL_RUN_DIR"  #: variable: folder of the sockets, as `--run-dir`
_RUNTIME_DIR = "XDG_RUNTIME_DIR"  #: variable: parent of the default run-dir for users other than root
GROUP = "dnstrail"
_SUDO = "run it with sudo"
_SCHEME = "ipc://"
_MAX_PATH = 107  # bytes in sun_path, unix(7)
_ONE_MASK = threading.RLock()
_CONNECT = 0.2  # seconds for a connection to a socket of this host


def default_run_dir() -> Path:
    """Return the folder of the sockets: /run/dnstrail for root, else one below the user's runtime folder."""
    if configured := os.environ.get(RUN_DIR):
        return Path(configured)
    if os.geteuid() == 0:
        return RUN_DIR_OF_HOST
    if runtime := os.environ.get(_RUNTIME_DIR):
        return Path(runtime) / "dnstrail"
    return Path(tempfile.gettempdir()) / f"dnstrail-{os.geteuid()}"


def group_id(group: str = GROUP) -> int:
    """Return the id of a group, by default the one that may use the sockets of this host; -1 if it does not exist."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return -1


def events_address(run_dir: Path) -> str:
    """Return the address at which the probe of a run-dir publishes."""
    return f"{_SCHEME}{run_dir}/events.sock"


def lookups_address(run_dir: Path) -> str:
    """Return the address at which the cache of a run-dir answers lookups."""
    return f"{_SCHEME}{run_dir}/lookups.sock"


def conflicts_address(lookups: str) -> str:
    """Return the address at which the cache that serves these lookups publishes conflicts."""
    return f"{_SCHEME}{socket_path(lookups).parent}/conflicts.sock"


def facts_address(lookups: str) -> str:
    """Return the address at which the cache that serves these lookups publishes facts."""
    return f"{_SCHEME}{socket_path(lookups).parent}/facts.sock"


def history_address(lookups: str) -> str:
    """Return the address at which the history of the cache that serves these lookups answers those of a past time."""
    return f"{_SCHEME}{socket_path(lookups).parent}/history.sock"


def fleet_address(run_dir: Path) -> str:
    """Return the address at which the store of the fleet of a run-dir answers lookups."""
    return f"{_SCHEME}{run_dir}/fleet.sock"


def findings_address(run_dir: Path) -> str:
    """Return the address that receives the findings of a run-dir."""
    return f"{_SCHEME}{run_dir}/findings.sock"


def outputs_address(run_dir: Path) -> str:
    """Return the address that receives the findings of an all-in-one run that has outputs."""
    return f"{_SCHEME}{run_dir}/outputs.sock"


def published_address(run_dir: Path) -> str:
    """Return the address at which the findings of an all-in-one run with a page are published."""
    return f"{_SCHEME}{run_dir}/published.sock"


def socket_path(address: str) -> Path:
    """Return the path of an ipc address.

    Raises:
        BusError: the address has another form, or names a path that is too long for a unix socket.
    """
    path = address.removeprefix(_SCHEME)
    if path in (address, ""):
        raise BusError(address, "no bus address: write ipc:///path, or tcp://ADDRESS:PORT")
    if len(os.fsencode(path)) > _MAX_PATH:
        raise BusError(address, f"longer than the {_MAX_PATH} bytes of a unix socket's path: use a shorter run-dir")
    return Path(path)


def direct_address(address: str) -> str:
    """Return the address at which root, and the owner of the folder, reach the server of an ipc address directly."""
    path = socket_path(address)
    return f"{_SCHEME}{path.with_name(f'{path.stem}-direct{path.suffix}')}"


def best_address(address: str) -> str:
    """Return the address by which this process reaches the server of an ipc address: directly, if it may.

    A server that starts later is reached as others reach it.
    """
    direct, folder = direct_address(address), socket_path(address).parent
    with suppress(OSError, BusError):
        if socket_path(direct).exists() and os.geteuid() in (0, folder.stat().st_uid):
            return direct
    return address


def is_open(folder: Path) -> bool:
    """Return whether a folder lets others in than root and its owner.

    Raises:
        OSError: it is missing, or out of reach.
    """
    status = folder.stat()
    by_group = status.st_mode & stat.S_IXGRP and status.st_gid
    return bool(by_group or status.st_mode & stat.S_IXOTH)


def listener_at(address: str) -> socket.socket:
    """Return a unix socket that is bound at an ipc address, in place of one that an earlier server left.

    Raises:
        OSError: the address cannot be bound.
    """
    path = socket_path(address)
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
    except OSError:
        listener.close()
        raise
    return listener


def check_address(address: str, *, local: bool = False) -> None:
    """Refuse an address that the bus cannot use; a `local` one must lead to a socket of this host.

    Raises:
        BusError: the address has another form.
    """
    if local and address.removeprefix(_SCHEME) in (address, ""):
        raise BusError(address, "no socket of this host: write ipc:///path")
    if is_tcp(address):
        host_of(address)
    else:
        socket_path(address)


@contextmanager
def sole_server(address: str, group: str = GROUP) -> Iterator[int]:
    """Prepare the bind of an ipc socket: make its folder, lock the address, restrict it to the user and the group.

    A folder that exists keeps its group.

    Yields the descriptor of the lock. The server keeps it open until it closes the socket.

    Raises:
        BusError: another process serves this address, or the folder is unusable.
    """
    path = socket_path(address)
    lock = _lock(address, path, group)
    try:
        with _masked(0o117):
            yield lock
    except BaseException:
        os.close(lock)
        raise
    _give(path)


@contextmanager
def owners_socket(address: str) -> Iterator[None]:
    """Restrict the bind of an ipc socket to root and the owner of its folder."""
    with _masked(0o177):
        yield
    _give(socket_path(address))


@contextmanager
def _masked(umask: int) -> Iterator[None]:
    """Set the umask of this process, which all threads share, for the time of a block."""
    with _ONE_MASK:
        before = os.umask(umask)
        try:
            yield
        finally:
            os.umask(before)


def _give(path: Path) -> None:
    """Give a socket to the owner of its folder, who may use it, whichever worker made it."""
    folder = path.parent.stat()
    with suppress(OSError):
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _lock(address: str, path: Path, group: str) -> int:
    try:
        make_folder(address, path.parent, group)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BusError(address, f"{error.strerror}: choose another folder with --run-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise BusError(address, "another dnstrail serves here: stop it, or use another --run-dir") from error
    return lock


def make_folder(address: str, folder: Path, group: str = GROUP) -> None:
    """Make the folder of a socket for a group, if it is missing.

    Raises:
        BusError: the folder belongs to another user.
        OSError: the folder cannot be made.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with suppress(OSError):
            os.chown(folder, -1, group_id(group))
    status = folder.stat()
    others_may_write = bool(status.st_mode & stat.S_IWOTH) if os.geteuid() == 0 else True
    if status.st_uid not in (0, os.geteuid()) and others_may_write:
        raise BusError(address, f"{folder} belongs to another user: choose another folder with --run-dir")


def why_unanswered(address: str) -> tuple[str, str]:
    """Return why nobody answers at an address, and the remedy: the `reason` and `remedy` of `Unavailable`."""
    if is_tcp(address):
        return (
            "timeout",
            "nobody serves this address, or the key of this host is not allowed: `dnstrail keys list` there",
        )
    path = socket_path(address)
    try:
        _connect(path)
    except PermissionError:
        return "permission", f"permission denied: {_remedy_of(path)}"
    except OSError:
        return _where_served(path)
    return "timeout", "a process serves this socket, but it is busy or stopped: see the log of the cache"


def _connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT)
        with suppress(TimeoutError, BlockingIOError):  # its queue of connections is full: it is served
            probe.connect(os.fspath(path))


def _where_served(path: Path) -> tuple[str, str]:
    """Return why nobody serves a socket: another folder is served, or one that this user may not open may be."""
    others = [folder for folder in _run_dirs() if folder != path.parent and not distrust(folder)]
    closed = None
    for folder in others:
        try:
            _connect(folder / path.name)
        except PermissionError:
            closed = closed or folder
        except OSError:
            continue
        else:
            return "elsewhere", f"a cache serves {folder}: use --run-dir {folder}"
    if closed:
        remedy = _remedy_of(closed / path.name)
        return "permission", f"a cache may serve {closed}, which this user may not open: {remedy}"
    return "absent", "nobody serves this socket: start `dnstrail` or `dnstrail cache`, or name another --run-dir"


def _run_dirs() -> list[Path]:
    """Return the folders in which a cache of this host may serve this user."""
    runtime, temporary, users = Path("/run/user"), Path(tempfile.gettempdir()), sorted(trusted_users())
    own = [folder for user in users for folder in (runtime / f"{user}/dnstrail", temporary / f"dnstrail-{user}")]
    return [default_run_dir(), RUN_DIR_OF_HOST, RUN_DIR_OF_FLEET, *own]


def _remedy_of(path: Path) -> str:
    for place in (path, path.parent):
        with suppress(OSError):
            return _join(place.stat().st_gid)
    with suppress(KeyError):
        return _join(grp.getgrnam(GROUP).gr_gid)
    return _SUDO


def _join(group: int) -> str:
    """Return how to get the rights of a group: nobody can join the group of root, or a group without a name."""
    with suppress(KeyError):
        return f"join the group {grp.getgrgid(group).gr_name}" if group else _SUDO
    return _SUDO
