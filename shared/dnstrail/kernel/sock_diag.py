"""Lists the sockets of a network namespace, and ends connections, over netlink (sock_diag(7))."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x001, 0x004, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, id
# struct inet_diag_msg (linux/inet_diag.h), in three parts: the ports are in network order, the rest in host order.
_STATE = struct.Struct("=B3x")  # idiag_family; idiag_state, idiag_timer and idiag_retrans
_ENDS = struct.Struct(">2H16s16s")  # idiag_sport, idiag_dport, idiag_src, idiag_dst
_REST = struct.Struct("=4xQ16xI")  # idiag_if; idiag_cookie; idiag_expires, rqueue, wqueue and uid; idiag_inode
_USER = struct.Struct("=24xI4x")  # idiag_if, cookie, expires, rqueue and wqueue; idiag_uid; idiag_inode
_WANTED = struct.Struct("=BBBxI")  # the begin of struct inet_diag_req_v2, before its id
_ANYWHERE = struct.pack("=I", 0) + b"\xff" * 8  # of an id: any interface, and any cookie (INET_DIAG_NOCOOKIE)
_MESSAGE = _STATE.size + _ENDS.size + _REST.size
_ALL_STATES = 0xFFFFFFFF
_LARGEST = 1 << 17
_SO_NETNS_COOKIE = 71
_TIMEOUT = 2.0
_PROTOCOLS = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)


class OpenSocket(NamedTuple):
    """One socket; addresses packed, 4 or 16 bytes; the destination port is 0 if it is not connected."""

    cookie: int
    protocol: int
    source: bytes
    port: int
    destination: bytes
    destination_port: int
    inode: int


def open_sockets() -> Iterator[OpenSocket]:
    """Yield the TCP and UDP sockets of the network namespace of the calling thread.

    Raises:
        OSError: the kernel refused the request.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT)
        for family in (socket.AF_INET, socket.AF_INET6):
            for protocol in _PROTOCOLS:
                body = _REQUEST.pack(family, protocol, 0, _ALL_STATES)
                flags = _NLM_F_REQUEST | _NLM_F_DUMP
                netlink.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body)
                for message in _messages(netlink):
                    yield _open_socket(message, protocol)


def namespace_cookie() -> int:
    """Return the cookie of the network namespace of the calling thread; 0 before Linux 5.14, which has no such call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        try:
            return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return 0


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    """Yield the bodies of the reply to a dump request."""
    while True:
        data = netlink.recv(_LARGEST)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size + _MESSAGE:
                return
            yield data[at + _HEADER.size : at + length]
            at += length + 3 & ~3


def _open_socket(message: bytes, protocol: int) -> OpenSocket:
    (family,) = _STATE.unpack_from(message)
    size = 4 if family == socket.AF_INET else 16
    port, destination_port, source, destination = _ENDS.unpack_from(message, _STATE.size)
    cookie, inode = _REST.unpack_from(message, _STATE.size + _ENDS.size)
    return OpenSocket(
        cookie=cookie,
        protocol=protocol,
        source=source[:size],
        port=port,
        destination=destination[:size],
        destination_port=destination_port,
        inode=inode,
    )


def user_of_connection(family: int, source: bytes, port: int, destination: bytes, destination_port: int) -> int | None:
    """Return the user id of the socket with this source, connected to this destination over TCP; None if none is here.

    Only a socket of the network namespace of the calling thread is found.
    """
    identity = _ENDS.pack(port, destination_port, source, destination) + _ANYWHERE
    body = _WANTED.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES) + identity
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_TIMEOUT)
            netlink.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body)
            message = next(_messages(netlink), None)
    except OSError:
        return None
    if message is None:
        return None
    (user,) = _USER.unpack_from(message, _STATE.size + _ENDS.size)
    return int(user)


class TcpSocket(NamedTuple):
    """A TCP socket: its family, packed addresses and ports, interface (0: any) and cookie."""

    family: int
    source: bytes
    port: int
    destination: bytes
    destination_port: int
    interface: int
    cookie: int


def end_connection(one: TcpSocket) -> int:
    """Reset a TCP connection of the network namespace of the calling thread; return 0, or a number of errno."""
    identity = _ENDS.pack(one.port, one.destination_port, one.source, one.destination)
    identity += struct.pack("=IQ", one.interface, one.cookie)
    body = _WANTED.pack(one.family, socket.IPPROTO_TCP, 0, _ALL_STATES) + identity
    flags = _NLM_F_REQUEST | _NLM_F_ACK
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_TIMEOUT)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DESTROY, flags, 1, 0) + body)
        (negative,) = struct.unpack_from("=i", netlink.recv(_LARGEST), _HEADER.size)
    return -int(negative)


def can_end_connections() -> bool:
    """Return whether the kernel ends connections on request."""
    return end_connection(TcpSocket(socket.AF_INET, bytes(16), 0, bytes(16), 0, 0, 0)) == errno.ENOENT
