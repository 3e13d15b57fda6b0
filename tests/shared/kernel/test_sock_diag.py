from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from dnstrail.kernel.sock_diag import (
    TcpSocket,
    end_connection,
    namespace_cookie,
    open_sockets,
    user_of_connection,
)
from dnstrail_probe.ebpf.open_sockets import all_sockets
from dnstrail_probe.host.procfs import network_namespaces, sockets_of
from live.users import USER

_SO_COOKIE = 57


def cookie_of(one: socket.socket) -> int:
    return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_sockets_are_listed_with_cookie_inode_and_destination(family, address, kind):
    """Every TCP and UDP socket is listed with its cookie, inode, port and destination."""
    with socket.socket(family, kind) as server, socket.socket(family, kind) as client:
        server.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        port = server.getsockname()[1]
        client.connect((address, port))
        listed = {one.cookie: one for one in open_sockets()}
        ours, theirs = listed[cookie_of(client)], listed[cookie_of(server)]
        assert (ours.destination, ours.destination_port) == (socket.inet_pton(family, address), port)
        assert (theirs.port, theirs.destination_port) == (port, 0)
        assert {ours.inode, theirs.inode} <= set(sockets_of(os.getpid()))
        assert ours.protocol == (socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP)


def test_the_own_namespace_is_listed():
    """The sockets of this network namespace are listed once, under its cookie."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        found = [space for space in all_sockets() if cookie_of(one) in {item.cookie for item in space.sockets}]
    assert [space.cookie for space in found] == [namespace_cookie()]
    assert Path("/proc/self/ns/net").stat().st_ino in network_namespaces()


@pytest.mark.skipif(os.geteuid() != 0, reason="to enter other namespaces needs root")
def test_other_namespaces_are_listed():
    """The sockets of another namespace are listed, and this process stays in its own."""
    before = Path("/proc/self/ns/net").stat().st_ino
    code = "import socket, sys; s = socket.socket(2, 2); s.bind(('0.0.0.0', 4711)); print(flush=True); sys.stdin.read()"
    command = ["unshare", "--net", "python3", "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = [space for space in all_sockets() if 4711 in {one.port for one in space.sockets}]
        process.stdin.close()
    assert len(found) == 1
    assert found[0].cookie not in (0, namespace_cookie())
    assert Path("/proc/self/ns/net").stat().st_ino == before


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_user_of_a_connection_is_found(family, address):
    """The user of the socket at the other end of a connection is found by its ends; another connection has none."""
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        here = socket.inet_pton(family, address)
        for user in (os.geteuid(), USER) if os.geteuid() == 0 else (os.geteuid(),):
            connect = f"import socket; one = socket.create_connection(({address!r}, {port})); input()"
            command = ["/usr/bin/python3", "-ISc", f"import encodings.idna\n{connect}"]
            with subprocess.Popen(command, user=user, stdin=subprocess.PIPE) as process:
                accepted, ends = listener.accept()
                with accepted:
                    assert user_of_connection(family, here, ends[1], here, port) == user
                    assert user_of_connection(family, here, ends[1], here, port ^ 1) is None
                process.communicate(b"\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="to end connections needs root")
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_is_ended(family, address):
    """The connection with the cookie is reset on both sides; another cookie ends nothing."""
    with (
        socket.create_server((address, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        peer, _ = server.accept()
        with peer:
            packed = socket.inet_pton(family, address)
            ports = client.getsockname()[1], server.getsockname()[1]
            one = TcpSocket(family, packed, ports[0], packed, ports[1], 0, cookie_of(client))
            assert end_connection(one._replace(cookie=cookie_of(server))) == errno.ENOENT
            client.send(b"x")
            assert peer.recv(1) == b"x"
            assert end_connection(one) == 0
            with pytest.raises(ConnectionAbortedError):
                client.recv(1)
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
