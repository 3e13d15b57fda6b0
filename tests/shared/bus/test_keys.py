"""The folder of keys: made whole, and refused if others may change it."""

from __future__ import annotations

import stat

import pytest
import zmq
import zmq.auth

from dnstrail.bus import keys
from dnstrail.bus.keys import (
    CLIENTS,
    SERVERS,
    ServerKey,
    allow,
    keys_for,
    load_keys,
    new_pair,
    public_key,
    public_keys,
)
from dnstrail.errors import BusError, SettingsError
from live.workers import short_folder

PUBLIC = zmq.curve_keypair()[0].decode()


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def own(folder):
    """Make a folder with a pair of keys."""
    new_pair(folder / "keys")
    return folder / "keys"


def test_a_pair_is_a_certificate(own):
    """The files have the format of zmq.auth. The user alone may read the secret one."""
    secret = own / "own.key_secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert zmq.auth.load_certificate(secret) == tuple(key.encode() for key in load_keys(own)[1:3])
    assert zmq.auth.load_certificate(own / "own.key") == (public_key(own).encode(), None)


def test_a_pair_is_never_replaced(own):
    """A second pair is refused, and leaves no file."""
    before = load_keys(own)
    with pytest.raises(BusError, match="there is a pair already"):
        new_pair(own)
    assert load_keys(own) == before
    assert sorted(path.name for path in own.iterdir()) == ["clients", "own.key", "own.key_secret", "servers"]


def test_clients_and_servers_are_named(own):
    """Public keys are kept by the name of the client, and by the canonical address of the server."""
    allow(own, CLIENTS, "central", PUBLIC)
    allow(own, SERVERS, "[2001:DB8::0:1]", PUBLIC)
    assert public_keys(own, CLIENTS) == {"central": PUBLIC}
    assert load_keys(own).servers == {"2001:db8::1": ServerKey(PUBLIC, "2001:db8::1")}


def test_the_host_of_a_server_has_the_name_that_its_key_was_given(own):
    """A key has one name at all of its addresses: the one that it was given, else its first address."""
    other = zmq.curve_keypair()[0].decode()
    for address, key, host in (("192.0.2.1", PUBLIC, ""), ("192.0.2.2", PUBLIC, "alpha"), ("192.0.2.3", other, "")):
        allow(own, SERVERS, address, key, host)
    assert [server.host for server in load_keys(own).servers.values()] == ["alpha", "alpha", "192.0.2.3"]
    allow(own, SERVERS, "192.0.2.2", PUBLIC)
    assert [server.host for server in load_keys(own).servers.values()] == ["192.0.2.1", "192.0.2.1", "192.0.2.3"]


@pytest.mark.parametrize("host", ["alpha", "192.0.2.1", "../x", 'a"b', "a b", "x" * 65])
def test_two_keys_have_no_common_name(own, host):
    """The name of another key's host, or of another form, is refused; nothing is written then."""
    allow(own, SERVERS, "192.0.2.1", PUBLIC)
    allow(own, SERVERS, "192.0.2.2", zmq.curve_keypair()[0].decode(), "alpha")
    with pytest.raises(SettingsError, match="name"):
        allow(own, SERVERS, "192.0.2.3", zmq.curve_keypair()[0].decode(), host)
    assert [*load_keys(own).servers] == ["192.0.2.1", "192.0.2.2"]


def test_keys_with_a_common_name_are_refused(own):
    """Two files of servers that name the same host by different keys are refused when the keys are loaded."""
    allow(own, SERVERS, "192.0.2.1", PUBLIC, "alpha")
    allow(own, SERVERS, "192.0.2.2", zmq.curve_keypair()[0].decode(), "beta")
    path = own / "servers/192.0.2.2.key"
    path.write_text(path.read_text().replace("beta", "alpha"))
    with pytest.raises(BusError, match="two keys of servers have the name alpha"):
        load_keys(own)


@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [
        (CLIENTS, "../own", PUBLIC),
        (CLIENTS, ".hidden", PUBLIC),
        (CLIENTS, "", PUBLIC),
        (CLIENTS, "x" * 65, PUBLIC),
        (SERVERS, "server.example", PUBLIC),
        (CLIENTS, "central", PUBLIC[:39]),
        (CLIENTS, "central", PUBLIC + "\n"),
        (CLIENTS, "central", "é" * 40),
    ],
)
def test_a_strange_name_or_key_is_refused(own, kind, name, key):
    """A name that is a path, and a key of another form, are refused; nothing is written."""
    with pytest.raises(SettingsError):
        allow(own, kind, name, key)
    assert public_keys(own, kind) == {}


@pytest.mark.parametrize(
    ("file", "mode", "fault"),
    [
        ("own.key_secret", 0o640, "others may read it"),
        ("own.key_secret", 0o602, "others may write to it"),
        ("servers/192.0.2.1.key", 0o664, "others may write to it"),
        ("servers", 0o777, "others may write to"),
    ],
)
def test_keys_that_others_may_change_are_refused(own, file, mode, fault):
    """A file or folder that others may write, and a secret that they may read, are refused."""
    allow(own, SERVERS, "192.0.2.1", PUBLIC)
    (own / file).chmod(mode)
    with pytest.raises(BusError, match=fault):
        load_keys(own)


def test_links_are_refused(own):
    """A key that is a symbolic link is refused."""
    (own / "servers/192.0.2.1.key").symlink_to(own / "own.key")
    with pytest.raises(BusError):
        load_keys(own)


def test_a_folder_is_bounded(own, monkeypatch):
    """A folder with the most keys takes no further one, and one with more is refused."""
    monkeypatch.setattr(keys, "MOST_KEYS", 2)
    for name in ("a", "b"):
        allow(own, CLIENTS, name, PUBLIC)
    with pytest.raises(BusError, match="2 keys; 2 at most"):
        allow(own, CLIENTS, "c", PUBLIC)
    allow(own, CLIENTS, "b", PUBLIC)
    (own / "clients/c.key").write_bytes((own / "own.key").read_bytes())
    with pytest.raises(BusError, match="3 keys; 2 at most"):
        public_keys(own, CLIENTS)


def test_keys_are_read_for_other_hosts_alone(folder):
    """Addresses of this host need no keys; without keys an address of another one names the command."""
    assert keys_for(folder, ["ipc:///x", ""]) is None
    with pytest.raises(BusError, match="dnstrail keys new"):
        keys_for(folder, ["ipc:///x", "tcp://192.0.2.1:7001"])
