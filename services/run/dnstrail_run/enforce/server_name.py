"""Ends the connections that stated no allowed name to an address of one (`server_name.bpf.c`)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.sock_diag import TcpSocket, can_end_connections, end_connection, namespace_cookie
from dnstrail_run.namespaces import enter

#: bytes of the header of a request that `--check-server-name` reads -> the connection is refused, as one without a name
MOST_HEADER = 6_144
#: extensions of a ClientHello that `--check-server-name` reads -> the connection is refused, as one without a name
MOST_EXTENSIONS = 64
_PARTS = 32  # in which the programs read a header: the kernel allows 33 calls, the last of which judges the name
ENDING_PAGES = 16
# `struct ending` of the programs.
_ENDING = struct.Struct("=QQIIIII4s4s16s16s4x")
_REMEDY = "Linux with CONFIG_INET_DIAG_DESTROY, or leave out --check-server-name"


class _Ending(NamedTuple):
    """A connection that is to be ended, the namespace of its socket, and its process."""

    connection: TcpSocket
    namespace: int
    pid: int


class Endings:
    """Ends the connections that the programs have refused.

    Raises:
        SourceUnavailable: this kernel does not end connections; the error names the remedy.
    """

    def __init__(self, home: int) -> None:
        self._home = home
        if not can_end_connections():
            raise SourceUnavailable("enforce", "the kernel cannot end a connection that is refused", _REMEDY)

    def end(self, records: Iterable[bytes]) -> None:
        """End connections as the programs report them, also in a network namespace that the command has made."""
        for one in map(_ending, records):
            if one.namespace == self._home:
                _end(one)
            else:
                thread = threading.Thread(target=_end_within, args=[one])
                thread.start()
                thread.join()


def defines() -> dict[str, Any]:
    """Return the bounds of the programs."""
    return {
        "REQUEST_PARTS": _PARTS,
        "REQUEST_PART": MOST_HEADER // _PARTS,
        "EXTENSIONS": MOST_EXTENSIONS,
        "ENDING_PAGES": ENDING_PAGES,
    }


def _ending(record: bytes) -> _Ending:
    cookie, namespace, pid, family, interface, port, to_port, *ends = _ENDING.unpack(record)
    source, destination = ends[:2] if family == socket.AF_INET else ends[2:]
    return _Ending(TcpSocket(family, source, port, destination, to_port, interface, cookie), namespace, pid)


def _end_within(one: _Ending) -> None:
    """End a connection in the network namespace of its process, in a thread of its own."""
    with suppress(OSError):  # the process has ended, and its sockets with it
        enter(f"/proc/{one.pid}/ns/net")
        if namespace_cookie() == one.namespace:
            _end(one)


def _end(one: _Ending) -> None:
    with suppress(OSError):  # the kernel reports again what is left
        end_connection(one.connection)
