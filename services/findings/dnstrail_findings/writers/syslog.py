"""Messages to a syslog server: over UDP (RFC 5426), TCP (RFC 6587), or the socket of this host."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dnstrail_findings.finding import LineSource, timestamp
from dnstrail_findings.output import RefusedError

_AUTHPRIV = 10  # facility: security and authorization messages
_SEVERITIES = (6, 5, 4, 3)  # informational, notice, warning, error; by the severity of the finding
_NOTICE = 5
_LONGEST_HOST, _LONGEST_ID = 255, 32
_ELSE = re.compile(r"[^!-~]", re.ASCII)
UDP, TCP, UNIX = "udp", "tcp", "unix"
#: bytes of a datagram of syslog -> the message is sent as `text`
LONGEST_DATAGRAM = 8192  # receivers should take 2,048 at least (RFC 5426, section 3.2)
_PATIENCE = 5.0  # seconds
LINGER = 1.0  # seconds for a server to read what was sent before the end
_CHUNK, _CHUNKS = 1 << 16, 16  # bytes that are discarded at once, and how often before a message


class SyslogServer(NamedTuple):
    """The address of a server. `host` is the path of a unix socket."""

    transport: str
    host: str
    port: int = 0


class Syslog:
    """Sends each message by itself; a failed connection is made anew for the next try.

    What the server sends is discarded: unread bytes would hide its end, and reset the connection at a close.
    """

    most = 1
    most_bytes = 1 << 20

    def __init__(self, server: SyslogServer) -> None:
        self._server = server
        self._socket: socket.socket | None = None

    def write(self, lines: Sequence[bytes]) -> None:
        """Send messages.

        Raises:
            OSError: The server cannot be reached, or does not read.
            RefusedError: A message is longer than a datagram.
        """
        stream = self._server.transport == TCP
        for line in lines:
            if len(line) > LONGEST_DATAGRAM and not stream:
                raise RefusedError(f"{len(line)} bytes are too many for a datagram")
            try:
                self._connected().sendall(b"%d %s" % (len(line), line) if stream else line)
            except OSError:
                self._drop()
                raise

    def close(self) -> None:
        """Close the connection, once the server has read what was sent; wait for it at most LINGER seconds."""
        if self._socket is not None and self._server.transport == TCP:
            _finish(self._socket)
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._server.transport == TCP and _has_left(self._socket):
            self._drop()
        if self._socket is None:
            self._socket = _connect(self._server)
        return self._socket


def try_socket(server: SyslogServer) -> None:
    """Check that this user can send to the socket of this host. A server that is away is no fault.

    Raises:
        OSError: There is no such socket, or this user may not use it.
    """
    if server.transport == UNIX:
        with suppress(ConnectionRefusedError):
            _connect(server).close()


def _connect(server: SyslogServer) -> socket.socket:
    if server.transport == TCP:
        return socket.create_connection((server.host, server.port), _PATIENCE)
    family, address = _address(server)
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.settimeout(_PATIENCE)
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made


def _address(server: SyslogServer) -> tuple[socket.AddressFamily, Any]:
    if server.transport == UNIX:
        return socket.AF_UNIX, server.host
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)[0]
    return found[0], found[4]


def _has_left(connection: socket.socket) -> bool:
    """Return true if the server closed the connection: a send into it would succeed once, and be lost."""
    connection.settimeout(0)
    try:
        return any(not connection.recv(_CHUNK) for _ in range(_CHUNKS))
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_PATIENCE)


def _finish(connection: socket.socket) -> None:
    """End what is sent, and discard what the server sends until it closes the connection, too."""
    end = time.monotonic() + LINGER
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(_CHUNK):
                return


def syslog_message(source: LineSource, line: bytes) -> bytes:
    """Return a syslog message (RFC 5424) whose text is the line, of printable ASCII."""
    severity = _NOTICE if source.severity is None else _SEVERITIES[source.severity]
    head = [
        f"<{_AUTHPRIV * 8 + severity}>1",
        timestamp(source.timestamp),
        _word(source.host, _LONGEST_HOST),
        "dnstrail",
        str(os.getpid()),
        _word(source.event, _LONGEST_ID),
        "-",  # no structured data: the line has all values
    ]
    return " ".join(head).encode() + b" " + line


def _word(text: str, longest: int) -> str:
    """Return text as a word of the header: each character that cannot stand there becomes "_"."""
    return _ELSE.sub("_", text[:longest]) or "-"
