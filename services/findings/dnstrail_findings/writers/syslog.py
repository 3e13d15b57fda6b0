"""Messages to a syslog server: over UDP (RFC 5426), TCP (RFC 6587), or the socket of this host."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from dnstrail_findings.writer import RefusedError

UDP, TCP, UNIX = "udp", "tcp", "unix"
LONGEST_DATAGRAM = 8192  # bytes; receivers should take 2,048 at least (RFC 5426, section 3.2)
_PATIENCE = 5.0  # seconds


class SyslogServer(NamedTuple):
    """The address of a server. `host` is the path of a unix socket."""

    transport: str
    host: str
    port: int = 0


class Syslog:
    """Sends each message by itself; a failed connection is made anew for the next try.

    What the server sends is never read.
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
                self.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._server.transport == TCP and _has_left(self._socket):
            self.close()
        if self._socket is None:
            self._socket = _connect(self._server)
        return self._socket


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
    connection.settimeout(0)  # with another value recv(2) would wait, whatever its flags are
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_PATIENCE)
