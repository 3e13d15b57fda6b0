"""The keys of the bus between hosts: the own pair, and the public keys of servers and of allowed clients.

A folder of keys contains `own.key_secret` and `own.key`, and the folders `clients` and `servers`. Each of their files
holds one public key, and is named for the client, or for the address of the server. The file of a server may state the
name of its host. The files have the format of ZeroMQ's certificates (zmq.auth).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import zmq

from dnstrail.bus.remote_host import RemoteHost, key_digest
from dnstrail.bus.tcp import is_tcp
from dnstrail.bus.trust import distrust, trusted_users
from dnstrail.errors import BusError, SettingsError
from dnstrail.regular_file import read_regular
from dnstrail.whole_file import write_whole

#: variable: folder of the keys for other hosts (default: /etc/dnstrail/keys for root, else dnstrail/keys below
#: `XDG_CONFIG_HOME` or `~/.config`)
KEYS = "DNSTRAIL_KEYS"
CLIENTS, SERVERS = "clients", "servers"
#: keys of allowed clients, or of servers -> `dnstrail keys allow` refuses another; a worker that finds more allows
#: nobody, and logs `keys_refused`
MOST_KEYS = 1024
_MOST_BYTES = 4096  # of a file
_OWN, _SECRET, _PUBLIC = "own", ".key_secret", ".key"
_KEY = re.compile(r'^\s*(public|secret)-key\s*=\s*"([^"\s]{40})"\s*$', re.MULTILINE)
_HOST = re.compile(r'^\s*(host)\s*=\s*"([^"\s]*)"\s*$', re.MULTILINE)
_CHARACTERS = 40  # of a key (RFC 32/Z85)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_REMEDY = "make keys with `dnstrail keys new`, and allow them on the other host with `dnstrail keys allow`"


class ServerKey(NamedTuple):
    """The public key of a server, and the name of its host: the address, if it was given no name."""

    public: str
    host: str

    @property
    def remote(self) -> RemoteHost:
        """The host of this server."""
        return RemoteHost(key_digest(self.public), self.host)


class Keys(NamedTuple):
    """The own pair of keys, the key of each server by its address, and the folder of all keys."""

    folder: Path
    public: str
    secret: str
    servers: Mapping[str, ServerKey]


def default_keys() -> Path:
    """Return the folder of the keys of this user: /etc/dnstrail/keys for root."""
    if configured := os.environ.get(KEYS):
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/etc/dnstrail/keys")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dnstrail/keys"


def keys_for(folder: Path, addresses: Iterable[str]) -> Keys | None:
    """Return the keys for addresses; None if none of them leads to another host.

    Raises:
        BusError: a tcp address has no keys, or keys that must not be used.
    """
    first = next(filter(is_tcp, addresses), None)
    if first is None:
        return None
    if not (folder / f"{_OWN}{_SECRET}").exists():
        raise BusError(first, f"tcp needs keys, and {folder} contains none: {_REMEDY}")
    return load_keys(folder)


def load_keys(folder: Path) -> Keys:
    """Read the keys of a folder.

    Raises:
        BusError: a key is missing or damaged, or others than this user and root may change it.
    """
    _check_folder(folder)
    own = _read(folder / f"{_OWN}{_SECRET}")
    if not own.keys() >= {"public", "secret"}:
        raise BusError(str(folder), f"{_OWN}{_SECRET} contains no pair of keys: {_REMEDY}")
    return Keys(folder, own["public"], own["secret"], server_keys(folder))


def public_key(folder: Path) -> str | None:
    """Return the own public key of a folder; None without one.

    Raises:
        BusError: as `load_keys` does.
    """
    path = folder / f"{_OWN}{_PUBLIC}"
    return _read(path).get("public") if path.exists() else None


def public_keys(folder: Path, kind: str) -> dict[str, str]:
    """Return the public keys of the clients or servers of a folder, by name.

    Raises:
        BusError: a key is damaged, others may change it, or there are more than MOST_KEYS.
    """
    return {name: _public_of(path) for name, path in _files(folder / kind).items()}


def server_keys(folder: Path) -> dict[str, ServerKey]:
    """Return the keys of the servers of a folder by address. A key with several addresses has one name.

    Raises:
        BusError: as `public_keys` does, or two keys have the same name.
    """
    paths = _files(folder / SERVERS)
    keys = {address: _public_of(path) for address, path in paths.items()}
    given = {keys[address]: name for address, path in paths.items() if (name := _read(path).get("host"))}
    named = {key: given.get(key, address) for address, key in reversed(keys.items())}
    owners: dict[str, str] = {}
    for key, name in named.items():
        if owners.setdefault(name, key) != key:
            raise BusError(str(folder / SERVERS), f"two keys of servers have the name {name}")
    return {address: ServerKey(key, named[key]) for address, key in keys.items()}


def _files(below: Path) -> dict[str, Path]:
    """Return the files of public keys in a folder, by name.

    Raises:
        BusError: others may change the folder, or there are more than MOST_KEYS.
    """
    if not below.is_dir():
        return {}
    _check_folder(below)
    paths = sorted(below.glob(f"*{_PUBLIC}"))
    if len(paths) > MOST_KEYS:
        raise BusError(str(below), f"{len(paths)} keys; {MOST_KEYS} at most")
    return {path.name.removesuffix(_PUBLIC): path for path in paths}


def new_pair(folder: Path) -> str:
    """Make the own pair of keys, and return its public key.

    Raises:
        BusError: there is a pair already, or others may change the folder.
        OSError: the files cannot be written.
    """
    public, secret = (key.decode() for key in zmq.curve_keypair())
    for each in (folder, folder / CLIENTS, folder / SERVERS):
        each.mkdir(mode=0o755, parents=True, exist_ok=True)
        _check_folder(each)
    path = folder / f"{_OWN}{_SECRET}"
    try:
        write_whole(path, _certificate(public, secret), 0o600, replace=False)
    except FileExistsError as error:
        raise BusError(str(path), "there is a pair already; remove it to make another one") from error
    write_whole(folder / f"{_OWN}{_PUBLIC}", _certificate(public), 0o644)
    return public


def allow(folder: Path, kind: str, name: str, key: str, host: str = "") -> None:
    """Write the public key of a client or of a server; an earlier key of this name is replaced.

    `host` is the name of the host of a server, by default its address.

    Raises:
        SettingsError: the name, the key or the host has another form, or another key has the name of this host.
        BusError: others may change the folder, or it is full.
        OSError: the file cannot be written.
    """
    name = _name_of(kind, name)
    if not _is_key(key):
        raise SettingsError(f"{key!r} is no public key: it has 40 characters (`dnstrail keys list` prints it)")
    if kind == SERVERS:
        _check_host(folder, name, key, host)
    below = folder / kind
    for each in (folder, below):
        each.mkdir(mode=0o755, parents=True, exist_ok=True)
    if name not in (known := public_keys(folder, kind)) and len(known) >= MOST_KEYS:
        raise BusError(str(below), f"{len(known)} keys; {MOST_KEYS} at most")
    write_whole(below / f"{name}{_PUBLIC}", _certificate(key, host=host), 0o644)


def _check_host(folder: Path, address: str, key: str, host: str) -> None:
    if host and not _NAME.fullmatch(host):
        raise SettingsError(f"{host!r} is no name of a host: use letters, digits and . _ : -, 64 at most")
    for other, known in server_keys(folder).items():
        if other != address and known.public != key and known.host == (host or address):
            raise SettingsError(f"the key of the server {other} has the name {known.host} already: use another --host")


def _name_of(kind: str, name: str) -> str:
    if kind == SERVERS:
        with suppress(ValueError):
            return str(ip_address(name.strip("[]")))
        raise SettingsError(f"{name!r} is no IP address: a server is named by its address")
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name of a client: use letters, digits and . _ : -, 64 at most")
    return name


def _is_key(text: str) -> bool:
    with suppress(ValueError):
        return zmq.curve_public(text.encode()) is not None and len(text) == len(text.encode()) == _CHARACTERS
    return False


def _certificate(public: str, secret: str = "", host: str = "") -> bytes:
    metadata = f'    host = "{host}"\n' if host else ""
    line = f'    secret-key = "{secret}"\n' if secret else ""
    return f'metadata\n{metadata}curve\n    public-key = "{public}"\n{line}'.encode("ascii")


def _public_of(path: Path) -> str:
    found = _read(path).get("public")
    if found is None:
        raise BusError(str(path), "it contains no public key")
    return found


def _read(path: Path) -> dict[str, str]:
    """Return the keys in a file by kind ("public", "secret"), and the name of the host if it states one ("host")."""

    def check(status: os.stat_result) -> None:
        if fault := _fault_of(status, is_secret=path.suffix == _SECRET):
            raise BusError(str(path), fault)

    try:
        text = read_regular(path, _MOST_BYTES, check, links=False).decode("ascii", errors="replace")
    except OSError as error:
        raise BusError(str(path), error.strerror or str(error)) from error
    return dict(_KEY.findall(text)) | {kind: name for kind, name in _HOST.findall(text) if _NAME.fullmatch(name)}


def _fault_of(status: os.stat_result, *, is_secret: bool) -> str:
    """Return why a file of a key must not be used, or ""."""
    if status.st_uid not in trusted_users():
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it"
    if is_secret and status.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return "others may read it"
    return ""


def _check_folder(folder: Path) -> None:
    if fault := distrust(folder):
        raise BusError(str(folder), fault)
