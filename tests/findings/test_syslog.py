"""Syslog over UDP, TCP and a socket of the host, with servers that leave or do not read."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dnstrail_findings.output import RefusedError
from dnstrail_findings.writers import syslog
from dnstrail_findings.writers.syslog import LONGEST_DATAGRAM, TCP, UDP, UNIX, Syslog, SyslogServer, try_socket
from live.workers import BOUND, short_folder, wait_until

LOOPBACK = "127.0.0.1"


@contextmanager
def listening(kind: socket.SocketKind, port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.settimeout(BOUND)
        server.bind((LOOPBACK, port))
        if kind is socket.SOCK_STREAM:
            server.listen()
        yield server


def to(transport: str, server: socket.socket) -> SyslogServer:
    return SyslogServer(transport, LOOPBACK, server.getsockname()[1])


def accept(server: socket.socket) -> socket.socket:
    connection, _ = server.accept()
    connection.settimeout(BOUND)
    return connection


def test_each_message_is_a_datagram() -> None:
    """Over UDP each message is a datagram of its own."""
    with listening(socket.SOCK_DGRAM) as server, closing(Syslog(to(UDP, server))) as writer:
        writer.write([b"<85>1 a", b"<85>1 b"])
        assert [server.recv(100) for _ in range(2)] == [b"<85>1 a", b"<85>1 b"]


def test_messages_of_a_stream_are_counted() -> None:
    """Over TCP each message follows its length (RFC 6587, section 3.4.1)."""
    with listening(socket.SOCK_STREAM) as server, closing(Syslog(to(TCP, server))) as writer:
        writer.write([b"abc"])
        with accept(server) as connection:
            writer.write([b"x" * 20_000])
            received = b""
            while len(received) < 20_011:
                received += connection.recv(1 << 16)
    assert received == b"3 abc20000 " + b"x" * 20_000


def test_the_socket_of_the_host_is_written_to() -> None:
    """A socket such as /dev/log receives datagrams."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.settimeout(BOUND)
        server.bind(str(folder / "log"))
        with closing(Syslog(SyslogServer(UNIX, str(folder / "log")))) as writer:
            writer.write([b"<85>1 a"])
            assert server.recv(100) == b"<85>1 a"


def test_a_message_that_is_too_long_is_refused() -> None:
    """A datagram is bounded: a longer message is refused, and not cut."""
    with listening(socket.SOCK_DGRAM) as server, closing(Syslog(to(UDP, server))) as writer:
        with pytest.raises(RefusedError):
            writer.write([b"x" * (LONGEST_DATAGRAM + 1)])
        writer.write([b"x" * LONGEST_DATAGRAM])
        assert len(server.recv(1 << 16)) == LONGEST_DATAGRAM


def test_a_server_that_restarts_is_connected_anew() -> None:
    """A server that closed the connection receives the next message over a new one."""
    with listening(socket.SOCK_STREAM) as server, closing(Syslog(to(TCP, server))) as writer:
        writer.write([b"a"])
        with accept(server) as first:
            assert first.recv(10) == b"1 a"
        wait_until(lambda: syslog._has_left(writer._socket), "the end of the connection")
        writer.write([b"bc"])
        with accept(server) as second:
            assert second.recv(10) == b"2 bc"


def test_a_socket_of_this_host_is_tried(tmp_path: Path) -> None:
    """A socket that is missing is an error; one whose server is away, and a server elsewhere, are none."""
    place = tmp_path / "log"
    with pytest.raises(FileNotFoundError):
        try_socket(SyslogServer(UNIX, str(place)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(place))
        try_socket(SyslogServer(UNIX, str(place)))
    try_socket(SyslogServer(UNIX, str(place)))
    try_socket(SyslogServer(TCP, "127.0.0.1", 1))


def test_a_server_that_is_away_is_an_error() -> None:
    """Nobody at the address is an error that is tried again, over TCP and at a socket of the host."""
    with listening(socket.SOCK_STREAM) as server:
        away = to(TCP, server)
    for place in (away, SyslogServer(UNIX, "/nowhere/log")):
        with closing(Syslog(place)) as writer, pytest.raises(OSError, match=r"refused|No such file"):
            writer.write([b"a"])


@pytest.mark.parametrize("transport", [TCP, UNIX])
def test_a_server_that_does_not_read_is_given_up(transport: str, monkeypatch, tmp_path: Path) -> None:
    """A server that does not read costs bounded time, and the connection is closed."""
    monkeypatch.setattr(syslog, "_PATIENCE", 0.05)
    with listening(socket.SOCK_STREAM) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        unix.bind(str(tmp_path / "log"))
        place = to(TCP, stream) if transport == TCP else SyslogServer(UNIX, str(tmp_path / "log"))
        with closing(Syslog(place)) as writer:
            with pytest.raises(OSError, match="timed out"):  # noqa: PT012 - the buffers of the kernel take some
                for _ in range(10_000):
                    writer.write([b"x" * LONGEST_DATAGRAM])
            assert writer._socket is None


def test_what_a_server_sends_is_discarded() -> None:
    """A server that sends garbage delays no message."""
    with listening(socket.SOCK_STREAM) as server, closing(Syslog(to(TCP, server))) as writer:
        writer.write([b"a"])
        with accept(server) as connection:
            connection.sendall(b"<0>1 garbage\n" * 1000)
            writer.write([b"b"])
            wait_until(lambda: connection.recv(10, socket.MSG_PEEK) == b"1 a1 b", "both messages")


def test_a_server_that_sends_and_leaves_is_connected_anew() -> None:
    """Bytes before the end of a connection do not hide the end."""
    with listening(socket.SOCK_STREAM) as server, closing(Syslog(to(TCP, server))) as writer:
        writer.write([b"a"])
        with accept(server) as first:
            assert first.recv(10) == b"1 a"
            first.sendall(b"x" * 1000)
        poll = select.poll()
        poll.register(writer._socket, select.POLLRDHUP)
        assert poll.poll(BOUND * 1000)
        writer.write([b"bc"])
        with accept(server) as second:
            assert second.recv(10) == b"2 bc"


def test_the_last_messages_reach_a_server_that_sends(monkeypatch) -> None:
    """Bytes that were not read when the output ends reset no connection: the server still reads what was sent."""
    monkeypatch.setattr(syslog, "LINGER", BOUND)
    with listening(socket.SOCK_STREAM) as server, closing(Syslog(to(TCP, server))) as writer:
        writer.write([b"a"])
        with accept(server) as connection:
            connection.sendall(b"x" * 1000)
            connection.shutdown(socket.SHUT_WR)  # ends the wait for the server
            wait_until(lambda: len(writer._socket.recv(1000, socket.MSG_PEEK)) == 1000, "the bytes of the server")
            writer.close()
            assert [connection.recv(10), connection.recv(10)] == [b"1 a", b""]
