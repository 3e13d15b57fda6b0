"""The name and image of a container from a store of Podman (containers-storage: containers.json), and its labels.

Podman needs no daemon. It writes a container into this store before it makes the cgroup of the container.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from dnstrail.captured import Labels
from dnstrail.regular_file import read_regular
from dnstrail_probe.formats.sqlite_records import last_columns
from dnstrail_probe.host.container_name import NAMELESS, NO_LABELS, ContainerName, LabelSelection, container_name
from dnstrail_probe.host.process_root import NO_LINKS, open_below
from dnstrail_probe.host.user_names import Account, UserNames

#: variable: settings of Podman's store, for names and images of containers (default: /etc/containers/storage.conf)
_STORAGE_CONF = "CONTAINERS_STORAGE_CONF"
_DEFAULT_CONF = "/etc/containers/storage.conf"
_DEFAULT_STORE = "/var/lib/containers/storage"
_FILES = ("containers.json", "volatile-containers.json")  # the second one has those of `podman run --rm`
#: bytes of the list of containers in Podman's store -> beyond them its containers have no names
MOST_BYTES = 8 << 20
_MOST_OF_CONF = 1 << 20
_DATABASE = "db.sql"
_PATIENCE = 1.0  # seconds for a lock of Podman
_CONFIG_OF = "SELECT iif(length(JSON) <= ?, JSON, '') FROM ContainerConfig WHERE ID = ?"
#: bytes of the settings of a container in Podman's database -> beyond them its labels are not read
MOST_BYTES_OF_LABELS = 1 << 20
_HOST = Path("/proc/1/root")  # a container of the probe has other homes
_STORE_OF_USER = ".local/share/containers/storage"
_LISTS_OF_USER = [f"{driver}-containers/{file}" for driver, file in product(("overlay", "vfs", "btrfs"), _FILES)]
#: bytes of the lists of containers in the store of a user -> beyond them the containers of this user have no names
MOST_BYTES_OF_USER = 1 << 20
#: bytes of the database in the store of a user -> beyond them the containers of this user have no labels
MOST_BYTES_OF_USERS_DATABASE = 8 << 20
# Users can start containers without end. After a look at a store of one of them comes a pause of so many seconds, and
# of so many times the processor time of the look.
PACE, _REST = 0.05, 10


class _Entry(msgspec.Struct):
    id: str
    metadata: str = ""


class _Metadata(msgspec.Struct):
    name: str
    image: str = msgspec.field(name="image-name")


class _Config(msgspec.Struct):
    id: str = ""
    labels: dict[str, Any] = {}


_CONFIG = msgspec.json.Decoder(_Config)
_LIST, _METADATA = msgspec.json.Decoder(list[_Entry]), msgspec.json.Decoder(_Metadata)


def podman_store() -> str:
    """Return the folder of the store: `graphroot` of storage.conf(5)."""
    try:
        conf = read_regular(os.environ.get(_STORAGE_CONF) or _DEFAULT_CONF, _MOST_OF_CONF)
        store = tomllib.loads(conf.decode())["storage"]["graphroot"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _DEFAULT_STORE
    return store if isinstance(store, str) and store.startswith("/") else _DEFAULT_STORE


def stored(store: str, container: str, selection: LabelSelection = NO_LABELS) -> ContainerName | None:
    """Return the name of a container in a store of root; None if the store cannot be read.

    The container is in a folder for its storage driver: `overlay-containers`. Its labels are in the database of Podman
    5 (`db.sql`); without it, the container has none.
    """
    found = _find(_lists(store), container)
    if not found or not found.name or not selection.keys:
        return found
    try:
        return found._replace(labels=selection.of(_labels(Path(store, _DATABASE), container)))
    except (OSError, sqlite3.Error, msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        selection.leave_out(len(selection.keys))
        return found


class PodmanOfUsers:
    """The stores of users in their homes.

    A user can put anything there. Nothing but a regular file of the user is read: no link is followed, no other mount
    entered, and neither a lease nor a lock waited for. The bytes and the processor time of all requests are bounded.
    """

    def __init__(
        self, selection: LabelSelection = NO_LABELS, users: UserNames | None = None, host: Path = _HOST
    ) -> None:
        self._selection = selection
        self._users = users or UserNames()
        self._host = host
        self._next = 0.0  # the time of the next request

    def stored(self, container: str) -> ContainerName | None:
        """Return the name `USER/NAME` of a container `USER/ID`, image and labels; None if the store cannot be read."""
        user, _, identity = container.partition("/")
        account = self._users.account(user)
        if account is None:
            return NAMELESS
        time.sleep(max(self._next - time.monotonic(), 0.0))
        began = time.thread_time()
        found = _find(_files_of_user(self._host, account, _LISTS_OF_USER, MOST_BYTES_OF_USER), identity)
        if found and found.name:
            found = found._replace(name=f"{user}/{found.name}", labels=self._labels(account, identity))
        self._next = time.monotonic() + max(PACE, _REST * (time.thread_time() - began))
        return found

    def _labels(self, account: Account, container: str) -> Labels:
        """Return the selected labels of a container of a user. Those that cannot be read are left out."""
        if not self._selection.keys:
            return ()
        files = _files_of_user(self._host, account, (_DATABASE,), MOST_BYTES_OF_USERS_DATABASE)
        try:
            for stated in last_columns(b"".join(files), container.encode(), MOST_BYTES_OF_LABELS):
                with suppress(msgspec.MsgspecError, RecursionError):  # a free page
                    config = _CONFIG.decode(stated)
                    if config.id == container:
                        return self._selection.of(config.labels)
        except (OSError, ValueError):
            pass  # there is no database, or none that is read
        self._selection.leave_out(len(self._selection.keys))
        return ()


def _labels(database: Path, container: str) -> dict[str, Any]:
    """Return the labels of a container in a database of root.

    Raises:
        OSError, sqlite3.Error, msgspec.MsgspecError, TypeError: the database cannot be read, or has another form.
    """
    if not database.is_file():
        raise FileNotFoundError(errno.ENOENT, "no database", str(database))
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", timeout=_PATIENCE, uri=True)) as opened:
        row = opened.execute(_CONFIG_OF, (MOST_BYTES_OF_LABELS, container)).fetchone()
    return _CONFIG.decode(row[0]).labels if row else {}


def _find(lists: Iterable[bytes], container: str) -> ContainerName | None:
    """Return the name of a container in some lists; None if there is no list, or one that is malformed."""
    found: ContainerName | None = None
    try:
        for content in lists:
            found = NAMELESS
            for entry in _LIST.decode(content):
                if entry.id == container:
                    metadata = _METADATA.decode(entry.metadata)
                    return container_name(metadata.name, metadata.image)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return found


def _lists(store: str) -> Iterator[bytes]:
    """Yield the lists of containers in a store of root."""
    for file in (folder / file for folder in Path(store).glob("*-containers") for file in _FILES):
        with suppress(FileNotFoundError):
            yield read_regular(file, MOST_BYTES, links=False)


def _files_of_user(host: Path, account: Account, files: Iterable[str], most: int) -> Iterator[bytes]:
    """Yield files in the store of a user, as far as they are there.

    Raises:
        OSError: a file cannot be read or is none of the user, or all have more than `most` bytes.
    """
    home, left = Path(account.home), most
    parent = os.open(host / str(home.parent).lstrip("/"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for file in files:
            path = f"{home.name}/{_STORE_OF_USER}/{file}"
            with suppress(FileNotFoundError), open_below(parent, path, NO_LINKS, os.O_NONBLOCK) as descriptor:
                content = _read(descriptor, account.uid, left)
                left -= len(content)
                yield content
    finally:
        os.close(parent)


def _read(descriptor: int, owner: int, most: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: another user owns it, or it is longer.
    """
    if os.fstat(descriptor).st_uid != owner:
        raise OSError(errno.EPERM, "a file of another user")
    with open(descriptor, "rb", closefd=False) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"longer than {most} bytes")
    return content
