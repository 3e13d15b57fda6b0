"""Addresses of the bus between hosts: `tcp://ADDRESS:PORT`, or `tcp://*:PORT` to bind every address of this host."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from dnstrail.errors import BusError

_SCHEME = "tcp://"
_ANY = "*"
_LAST_PORT = 65535
_FORM = "no bus address: write tcp://ADDRESS:PORT with an IP address, an IPv6 address in brackets"

KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),  # ms: the connections of a host that is gone end
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


def is_tcp(address: str) -> bool:
    """Return whether an address leads to another host."""
    return address.startswith(_SCHEME)


def local_address(addresses: Iterable[str], default: str) -> str:
    """Return the first address of this host, by default another one: its folder is the folder of the worker."""
    return next((address for address in addresses if not is_tcp(address)), default)


def host_of(address: str) -> str:
    """Return the host of a tcp address in canonical form, or "*".

    A name is refused: the bus would resolve it, and dnstrail would observe its own queries.

    Raises:
        BusError: the address has another form.
    """
    host, _, port = address.removeprefix(_SCHEME).rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
        raise BusError(address, _FORM)
    if host == _ANY:
        return host
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        parsed = ip_address(host[1:-1] if bracketed else host)
    except ValueError as error:
        raise BusError(address, _FORM) from error
    if bracketed != (parsed.version == 6):  # noqa: PLR2004 - the version of IP
        raise BusError(address, _FORM)
    return str(parsed)


def listener_at(address: str) -> socket.socket:
    """Return a socket that is bound at a tcp address.

    Raises:
        BusError: the address has another form.
        OSError: the address cannot be bound.
    """
    host, port = host_of(address), int(address.rpartition(":")[2])
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" serves IPv4, too
        listener.bind(("" if host == _ANY else host, port))
    except OSError:
        listener.close()
        raise
    return listener


def connecting_to(address: str) -> socket.socket:
    """Return a socket that connects to a tcp address, and does not wait for it.

    Raises:
        OSError: there is no way to that host.
    """
    host, _, port = address.removeprefix(_SCHEME).rpartition(":")
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        connection.setblocking(False)
        for option in KEEPALIVE:
            connection.setsockopt(*option)
        with suppress(BlockingIOError):
            connection.connect((host.strip("[]"), int(port)))
    except OSError:
        connection.close()
        raise
    return connection
