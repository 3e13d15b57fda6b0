from __future__ import annotations

import os
import threading
from collections import Counter
from ipaddress import ip_address

import pytest

from dnstrail.resolv_conf import configured_in, servers_in
from dnstrail_probe.host import resolv_conf
from dnstrail_probe.host.resolv_conf import MAX_WAITING, ResolvConf
from live.processes import PATIENCE, wait_until

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


def test_nameservers_keep_their_zones():
    """The text of a resolver has the zone of the file, which names the interface of a link-local address."""
    text = "nameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.53\n"
    assert servers_in(text) == {
        ip_address("fe80::1").packed: "fe80::1%eth0",
        ip_address("192.0.2.53").packed: "192.0.2.53",
    }


@pytest.fixture
def etc(tmp_path):
    """Return a function that makes the folder /etc of a process and returns it."""

    def etc(pid):
        folder = tmp_path / str(pid) / "root/etc"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    return etc


@pytest.fixture
def write(etc):
    """Return a function that writes the resolv.conf of a process."""
    return lambda pid, text: (etc(pid) / "resolv.conf").write_text(text)


@pytest.fixture
def counters():
    """Return the counters of the probe."""
    return Counter()


@pytest.fixture
def resolvers(tmp_path, counters):
    """Yield the resolvers of processes in a folder in place of /proc."""
    found = ResolvConf(counters, proc=str(tmp_path))
    yield found
    found.close()


def look(resolvers, namespace=1, pid=7, start=0, now=NOW):
    """Return the resolvers of a process once its file was read."""
    resolvers.look(namespace, pid, start, now)
    file = resolvers._files[pid, start]
    wait_until(lambda: file.read, "the file")
    return resolvers.look(namespace, pid, start, now)


def test_a_process_has_the_servers_of_its_own_file(resolvers, write):
    """The file in the process's own mount namespace counts, even if others share its network namespace."""
    write(7, "nameserver 192.0.2.53")
    write(8, "nameserver 127.0.0.11")
    assert look(resolvers) == packed("192.0.2.53")
    assert look(resolvers, pid=8) == packed("127.0.0.11")


def test_an_ended_process_has_the_resolvers_of_its_namespace(resolvers, write):
    """The resolvers of an ended process are unknown, unless a file of its network namespace was read before."""
    assert look(resolvers, pid=9) is None
    write(7, "nameserver 192.0.2.53")
    assert look(resolvers) == packed("192.0.2.53")
    assert look(resolvers, pid=9) == packed("192.0.2.53")
    assert look(resolvers, pid=9, namespace=2) is None


def test_a_later_process_with_the_same_pid_has_its_own_file(resolvers, write):
    """Processes with the same pid and different starts are different."""
    write(7, "nameserver 192.0.2.53")
    assert look(resolvers, start=1) == packed("192.0.2.53")
    write(7, "nameserver 192.0.2.54")
    assert look(resolvers, start=2) == packed("192.0.2.54")
    assert look(resolvers, start=1) == packed("192.0.2.53")


def test_a_file_that_changes_is_noticed(resolvers, write):
    """A file is read again after ten seconds; until then, and during the read, the last result counts."""
    write(7, "nameserver 192.0.2.53")
    assert look(resolvers) == packed("192.0.2.53")
    write(7, "nameserver 192.0.2.54")
    assert resolvers.look(1, 7, 0, NOW + 10 * SECOND) == packed("192.0.2.53")
    wait_until(lambda: resolvers.look(1, 7, 0, NOW + 11 * SECOND) == packed("192.0.2.54"), "the change")


def test_processes_and_namespaces_are_bounded(resolvers, tmp_path, write, monkeypatch):
    """Beyond the bound the oldest processes and namespaces are evicted."""
    monkeypatch.setattr(resolv_conf, "MAX_REMEMBERED", 20)
    write(0, "nameserver 192.0.2.53")
    for number in range(1, 30):
        (tmp_path / str(number)).symlink_to(tmp_path / "0")
        look(resolvers, namespace=number, pid=number)
    assert len(resolvers) == 2 * 20


def pipe(path):
    """Make a pipe without a writer."""
    os.mkfifo(path)


def absolute_link(path):
    """Make a link to a file outside the root."""
    outside = path.parents[3] / "outside"
    outside.write_text("nameserver 192.0.2.66")
    path.symlink_to(outside)


def magic_link(path):
    """Make a link that leads into the root of the probe."""
    path.symlink_to("/proc/self/root/etc/resolv.conf")


def device(path):
    """Make a device that never ends: /dev/zero."""
    os.mknod(path, 0o20666, os.makedev(1, 5))


@pytest.mark.parametrize(
    "make",
    [
        pipe,
        absolute_link,
        magic_link,
        os.mkdir,
        pytest.param(device, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")),
    ],
)
def test_only_a_regular_file_below_the_root_is_read(resolvers, etc, write, make):
    """Anything else leaves the resolvers unknown, and holds up neither the caller nor the files of others."""
    make(etc(7) / "resolv.conf")
    write(8, "nameserver 192.0.2.53")
    assert resolvers.look(1, 7, 0, NOW) is None
    assert look(resolvers, pid=8) == packed("192.0.2.53")
    assert look(resolvers, namespace=2) is None


def test_an_absolute_link_is_resolved_below_the_root(resolvers, etc):
    """An absolute link, as systemd-resolved makes it, leads to the file of the process and not of the probe."""
    (etc(7).parent / "run").mkdir()
    (etc(7).parent / "run/stub.conf").write_text("nameserver 192.0.2.53")
    (etc(7) / "resolv.conf").symlink_to("/run/stub.conf")
    assert look(resolvers) == packed("192.0.2.53")


def test_a_huge_file_is_read_in_part(resolvers, etc):
    """The first 64 KiB of a file count."""
    with (etc(7) / "resolv.conf").open("wb") as file:
        file.write(b"nameserver 192.0.2.53\n")
        file.truncate(1 << 40)
    assert look(resolvers) == packed("192.0.2.53")


def test_a_file_that_hangs_holds_up_nothing_else(resolvers, counters, monkeypatch):
    """While a read hangs, no lookup waits, and processes beyond the bound are counted and not remembered."""
    hanging, release = threading.Event(), threading.Event()

    def hang(_reader, _pid):
        hanging.set()
        release.wait()

    monkeypatch.setattr(resolv_conf.ResolvConfReader, "read", hang)
    assert resolvers.look(1, 1, 0, NOW) is None
    assert hanging.wait(PATIENCE)
    for pid in range(2, 10_000):
        assert resolvers.look(1, pid, 0, NOW) is None
    assert len(resolvers) == 1 + MAX_WAITING
    assert counters["resolv_conf_dropped"] == 10_000 - 2 - MAX_WAITING
    release.set()
    wait_until(lambda: resolvers._files[1 + MAX_WAITING, 0].read, "the end of the queue")
