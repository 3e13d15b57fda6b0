"""`dnstrail run --enforce` and what a socket can do beside its connection: source routes, and sockets of others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import source_routes
from live.enforced import enforced, watched
from live.listed_network import RESOLVER, ListedNetwork, listed_network, serving
from live.namespaces import CLIENT, CLIENT6, live_or_skip
from live.processes import run_dir, wait_until
from live.source_routes import HOPS, MARK, WAYS

SUPPORT = str(Path(source_routes.__file__).parents[1])
ROUTES = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m", "live.source_routes")


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and a server that has all addresses."""
    live_or_skip()
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1) as both, watched():
            both.ask(RESOLVER)
            yield both


def test_a_source_route_leads_nowhere(network, folder):
    """No packet with a source route leaves, also after the end of the command, and the report counts them."""
    with (folder / "allowed").open("a") as file:
        file.write(f"{MARK}:80\n")
    with serving(network.hosts, folder / "packets", *ROUTES, "watch", *HOPS.values()) as packets:
        report, out = enforced(network, folder, *ROUTES, "command")
        wait_until(lambda: MARK in packets.read_text(), "the mark")
        assert packets.read_text().split("\n")[1:-1] == [f"10.99.0.2 {MARK}"], out
    found = json.loads(out)
    assert found.pop("reverse") == "EPERM"
    assert found.keys() == WAYS.keys()
    assert {found[name] for name in found if "datagram" in name} <= {"EPERM", "EINVAL"}
    assert not {"loose", "strict", "IPv6"} & {name for name in found if found[name] == "ok"}
    (note,) = report["enforcement"]
    assert note.endswith("packets with a source route were refused.")


# Listens at two own addresses, and connects from the second one to no address: to itself, as the kernel sees it.
UNSPECIFIED = """
import socket
UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
def made(kind, address, port):
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    one.settimeout(5)
    one.bind((address, port))
    return one
def result(call):
    try:
        return call()
    except OSError as error:
        return type(error).__name__
def ends(client, kind, address, sent):
    if kind == TCP:
        client.connect((address, 8053))
        return client.getpeername()[0]
    if sent:
        client.sendto(b"x", (address, 8053))
    else:
        client.connect((address, 8053))
        client.send(b"x")
    return [at for at, one in listening.items() if reads(one)]
def reads(one):
    try:
        return one.recv(1)
    except TimeoutError:
        return b""
listening = {at: made(UDP, at, 8053) for at in ("127.0.0.1", "127.0.0.2")}
streams = [made(TCP, at, 8053) for at in listening]
for one in streams:
    one.listen()
for one in listening.values():
    one.settimeout(0.5)
for own, address in ("127.0.0.2", "0.0.0.0"), ("::ffff:127.0.0.2", "::ffff:0.0.0.0"):
    for kind, sent in (TCP, False), (UDP, False), (UDP, True):
        with made(kind, own, 0) as client:
            print(result(lambda: ends(client, kind, address, sent)))
"""


def test_no_address_leads_to_loopback_alone(network, folder):
    """A socket with an own address that connects to 0.0.0.0 reaches what was decided on, and not this address."""
    with (folder / "allowed").open("a") as file:
        file.write("127.0.0.1:8053\n")
    _, out = enforced(network, folder, sys.executable, "-c", UNSPECIFIED)
    reached = ["127.0.0.1", "['127.0.0.1']", "['127.0.0.1']"]
    assert out.splitlines() == [*reached, "::ffff:127.0.0.1", *reached[1:]]


CONNECTED = """
import socket, struct
for address in ("10.99.0.2", "fd99::2"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    options = {socket.AF_INET: (0, socket.IP_TTL), socket.AF_INET6: (41, socket.IPV6_HOPLIMIT)}[family]
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((address, 8054))
        server.settimeout(5)
        client.connect((address, 8054))
        try:
            client.sendmsg([b"datagram"], [(*options, struct.pack("i", 7))])
            print(server.recv(9).decode())
        except OSError as error:
            print(repr(error))
"""


def test_a_connected_datagram_with_options_passes(network, folder):
    """A datagram with options, but without an address, goes where its socket was permitted to connect."""
    with (folder / "allowed").open("a") as file:
        file.write(f"{CLIENT}:8054\n[{CLIENT6}]:8054\n")
    report, out = enforced(network, folder, sys.executable, "-c", CONNECTED)
    assert (out.split(), report["refused"]) == (["datagram", "datagram"], [])


def test_a_connection_to_port_0_needs_an_entry(network, folder):
    """TCP has a port 0, which an entry with another port does not allow; a datagram socket may look for a route."""
    with (folder / "allowed").open("a") as file:
        file.write(f"{CLIENT}:8054\n")
    script = f"""
import socket
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    with socket.socket(type=kind) as made:
        print(made.connect_ex(({CLIENT!r}, 0)))
"""
    report, out = enforced(network, folder, sys.executable, "-c", script)
    assert out.split() == ["1", "0"]
    assert [(one["address"], one["port"]) for one in report["refused"]] == [(CLIENT, 0)]
