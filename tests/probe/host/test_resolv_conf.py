from __future__ import annotations

from ipaddress import ip_address

import pytest

from dnstrail_probe.host.resolv_conf import MAX_REMEMBERED, ResolvConf, configured_in

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
def test_nameservers_of_a_file(text, servers):
    """The resolvers of a resolv.conf are its nameserver lines; without any, the loopback addresses."""
    assert configured_in(text) == packed(*servers)


@pytest.fixture
def write(tmp_path):
    def write(pid, text):
        folder = tmp_path / str(pid) / "root/etc"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(text)

    return write


def look(resolvers, namespace=1, pid=7, now=NOW):
    return resolvers.look(namespace, pid, now)


def test_a_process_has_the_servers_of_its_own_file(tmp_path, write):
    """The file in the process's own mount namespace counts, even if others share its network namespace."""
    write(7, "nameserver 192.0.2.53")
    write(8, "nameserver 127.0.0.11")
    resolvers = ResolvConf(tmp_path)
    assert look(resolvers) == packed("192.0.2.53")
    assert look(resolvers, pid=8) == packed("127.0.0.11")


def test_an_ended_process_has_the_resolvers_of_its_namespace(tmp_path, write):
    """The resolvers of an ended process are unknown, unless a file of its network namespace was read before."""
    resolvers = ResolvConf(tmp_path)
    assert look(resolvers, pid=9) is None
    write(7, "nameserver 192.0.2.53")
    assert look(resolvers) == packed("192.0.2.53")
    assert look(resolvers, pid=9) == packed("192.0.2.53")
    assert look(resolvers, pid=9, namespace=2) is None


def test_a_file_that_changes_is_noticed(tmp_path, write):
    """A file is read again after ten seconds."""
    resolvers = ResolvConf(tmp_path)
    write(7, "nameserver 192.0.2.53")
    assert look(resolvers) == packed("192.0.2.53")
    write(7, "nameserver 192.0.2.54")
    assert look(resolvers, now=NOW + 10 * SECOND) == packed("192.0.2.53")
    assert look(resolvers, now=NOW + 11 * SECOND) == packed("192.0.2.54")


def test_processes_and_namespaces_are_bounded(tmp_path, write):
    """Beyond the bound the oldest processes and namespaces are evicted."""
    resolvers = ResolvConf(tmp_path)
    write(0, "nameserver 192.0.2.53")
    for number in range(1, MAX_REMEMBERED + 10):
        (tmp_path / str(number)).symlink_to(tmp_path / "0")
        look(resolvers, namespace=number, pid=number)
    assert len(resolvers) == 2 * MAX_REMEMBERED
