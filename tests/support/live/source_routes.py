"""A command for `dnstrail run --enforce` that leads packets to allowed addresses over another host, by source routes.

Run as `watch HOST...`, which prints the source and target of each packet that arrives for these hosts, or as `command`.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

from live.attempts import PORT, allowed_address, allowed_name, result

HOPS = {4: "10.99.0.3", 6: "fd99::3"}  # hosts that the list does not contain
MARK = "10.99.0.1"  # the host that receives a datagram at the end: the list contains it
_RETURNED = 7  # IP_RETOPTS
_ROUTING, _SEGMENTS = 57, 4  # IPV6_RTHDR, and its type: RFC 8754
_LOOSE, _STRICT, _NOTHING = 131, 137, 1
_PATIENCE = 0.2  # seconds: the packet leaves at once
_ADDRESSES = {0x0800: (12, 16, 20, socket.AF_INET), 0x86DD: (8, 24, 40, socket.AF_INET6)}  # by the protocol


def _options(kind: int) -> bytes:
    """Return IPv4 options: those before the source route have no meaning."""
    return bytes([_NOTHING, kind, 7, 4]) + socket.inet_aton(HOPS[4])


def _header() -> bytes:
    """Return an IPv6 routing header; the kernel enters the target."""
    return struct.pack("!BBBBBBH", 0, 4, _SEGMENTS, 1, 1, 0, 0) + bytes(16) + socket.inet_pton(socket.AF_INET6, HOPS[6])


def _end(version: int) -> tuple[str, int]:
    return allowed_address(version, 0), PORT


def _socket(version: int, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, kind)
    made.settimeout(_PATIENCE)
    return made


def _lead(made: socket.socket, version: int, kind: int = _LOOSE) -> None:
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, _options(kind))
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _ROUTING, _header())


def _before(version: int, kind: int = _LOOSE) -> None:
    with _socket(version, socket.SOCK_STREAM) as made:
        _lead(made, version, kind)
        made.connect(_end(version))


def _within(version: int) -> None:
    with _socket(version, socket.SOCK_STREAM) as made:
        made.connect(_end(version))
        _lead(made, version)
        made.send(b"x")
        made.recv(1)


def _datagram(version: int) -> None:
    with _socket(version, socket.SOCK_DGRAM) as made:
        _lead(made, version)
        made.sendto(b"x", _end(version))


def _beside(version: int) -> None:
    """Send the route with the datagram alone."""
    extra = (socket.IPPROTO_IP, _RETURNED, _options(_LOOSE))
    if version == 6:
        extra = (socket.IPPROTO_IPV6, _ROUTING, _header())
    with _socket(version, socket.SOCK_DGRAM) as made:
        made.sendmsg([b"x"], [extra], 0, _end(version))


WAYS: dict[str, Callable[[], None]] = {
    "loose": lambda: _before(4),
    "strict": lambda: _before(4, _STRICT),
    "IPv6": lambda: _before(6),
    **{f"within a connection, IPv{version}": lambda version=version: _within(version) for version in (4, 6)},
    **{f"a datagram, IPv{version}": lambda version=version: _datagram(version) for version in (4, 6)},
    **{f"beside a datagram, IPv{version}": lambda version=version: _beside(version) for version in (4, 6)},
}


def _reverse() -> None:
    """Connect to a host that is not in the list, over an allowed address."""
    with _socket(4, socket.SOCK_STREAM) as made:
        option = bytes([_NOTHING, _LOOSE, 7, 4]) + socket.inet_aton(allowed_address(4, 0))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, option)
        made.connect((HOPS[4], PORT))


def command() -> dict[str, str]:
    """Try all ways; return their results."""
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        socket.getaddrinfo(allowed_name(version, 0), PORT, family)
    found = {name: result(way) for name, way in WAYS.items()}
    with _socket(4, socket.SOCK_DGRAM) as made:
        made.sendto(b"end", (MARK, PORT))
    return {**found, "reverse": result(_reverse)}


def watch(*hosts: str) -> None:
    """Print the packets that arrive for these hosts, and the mark."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as packets:
        print("ready", flush=True)
        while True:
            packet, (_, kind, *_) = packets.recvfrom(200)
            with suppress(KeyError):
                source, target, end, family = _ADDRESSES[kind]
                to = socket.inet_ntop(family, packet[target:end])
                if to in hosts or packet.endswith(b"end"):
                    print(socket.inet_ntop(family, packet[source:target]), to, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch(*sys.argv[2:])
    else:
        print(json.dumps(command()))
