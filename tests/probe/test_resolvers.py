from __future__ import annotations

from ipaddress import ip_address

import pytest

from dnstrail_probe.resolvers import MAX_NAMESPACES, Resolvers, configured_in

SECOND = 10**9
NOW = 1000 * SECOND


def packed(*addresses):
    return frozenset(ip_address(address).packed for address in addresses)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.53\n", ["192.0.2.53"]),
        ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2\nsearch example\nnameserver\t2001:db8::53", ["2001:db8::53"]),
        ("nameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.53 # mapped", ["fe80::1", "192.0.2.53"]),
        ("nameserver\nnameserver nonsense\n\0\n", ["127.0.0.1", "::1"]),
        ("", ["127.0.0.1", "::1"]),
    ],
)
def test_what_a_file_names(text, servers):
    """The servers of a resolv.conf are its nameserver lines; a file without any stands for the host itself."""
    assert configured_in(text) == packed(*servers)


@pytest.fixture
def write(tmp_path):
    def write(pid, text):
        folder = tmp_path / str(pid) / "root/etc"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(text)

    return write


def is_foreign(resolvers, server, namespace=1, pid=7, now=NOW):
    return resolvers.is_foreign(ip_address(server).packed, namespace, pid, now)


def test_a_server_that_is_not_configured_is_foreign(tmp_path, write):
    """A server is foreign where the file of the asker's own mount namespace does not name it."""
    write(7, "nameserver 192.0.2.53")
    write(8, "nameserver 127.0.0.11")
    resolvers = Resolvers(tmp_path)
    assert is_foreign(resolvers, "192.0.2.53") is False
    assert is_foreign(resolvers, "8.8.8.8") is True
    assert is_foreign(resolvers, "127.0.0.11", namespace=2, pid=8) is False
    assert is_foreign(resolvers, "192.0.2.53", namespace=2, pid=8) is True


def test_what_cannot_be_read_is_not_known(tmp_path, write):
    """Of a process that has ended, nothing is known, unless another one of its namespace was asked before."""
    resolvers = Resolvers(tmp_path)
    assert is_foreign(resolvers, "8.8.8.8", pid=9) is None
    write(7, "nameserver 192.0.2.53")
    assert is_foreign(resolvers, "8.8.8.8", now=NOW + 11 * SECOND) is True
    assert is_foreign(resolvers, "8.8.8.8", pid=9, now=NOW + 30 * SECOND) is True


def test_a_file_that_changes_is_noticed(tmp_path, write):
    """A file is read again after ten seconds."""
    resolvers = Resolvers(tmp_path)
    write(7, "nameserver 192.0.2.53")
    assert is_foreign(resolvers, "192.0.2.54") is True
    write(7, "nameserver 192.0.2.54")
    assert is_foreign(resolvers, "192.0.2.54", now=NOW + 10 * SECOND) is True
    assert is_foreign(resolvers, "192.0.2.54", now=NOW + 11 * SECOND) is False


def test_what_is_remembered_is_bounded(tmp_path):
    """Endless namespaces are looked at, and the eldest forgotten."""
    resolvers = Resolvers(tmp_path)
    for namespace in range(MAX_NAMESPACES + 10):
        is_foreign(resolvers, "8.8.8.8", namespace=namespace)
    assert len(resolvers) == MAX_NAMESPACES
