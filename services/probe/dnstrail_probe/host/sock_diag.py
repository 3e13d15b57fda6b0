"""The sockets of a network namespace, as the kernel lists them over netlink (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states, struct inet_diag_sockid
_PORTS = struct.Struct(">HH16s16s")
_COOKIE = struct.Struct("=I2I")  # behind an interface
_INODE = 68  # where idiag_inode is in struct inet_diag_msg
_COOKIE_AT, _PORTS_AT = 40, 4
_ALL_STATES = 0xFFFFFFFF
_LARGEST = 1 << 17
_SO_NETNS_COOKIE = 71
_TIMEOUT = 2.0
_PROTOCOLS = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)


class OpenSocket(NamedTuple):
    """One socket; addresses packed, 4 or 16 bytes, port 0 where it is not connected."""

    cookie: int
    protocol: int
    port: int
    destination: bytes
    destination_port: int
    inode: int


def open_sockets() -> Iterator[OpenSocket]:
    """The TCP and UDP sockets of the network namespace of the calling thread; OSError where that is refused."""
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
    """The cookie of the network namespace of the calling thread; 0 before Linux 5.14, which cannot tell."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return 0


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    """The bodies of the answer to a dump."""
    while True:
        data = netlink.recv(_LARGEST)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                return
            yield data[at + _HEADER.size : at + length]
            at += length + 3 & ~3


def _open_socket(message: bytes, protocol: int) -> OpenSocket:
    port, destination_port, _, destination = _PORTS.unpack_from(message, _PORTS_AT)
    _, low, high = _COOKIE.unpack_from(message, _COOKIE_AT)
    (inode,) = struct.unpack_from("=I", message, _INODE)
    size = 4 if message[0] == socket.AF_INET else 16
    return OpenSocket(low | high << 32, protocol, port, destination[:size], destination_port, inode)
