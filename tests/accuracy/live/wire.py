"""The wire: the TCP connections that leave the client hosts, and the name that each one stated."""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dpkt.ethernet import Ethernet
from dpkt.ip import IP
from dpkt.ip6 import IP6
from dpkt.tcp import TCP, TH_ACK, TH_SYN

from hosts import Host
from stated_name import stated_name

_ALL, _OUTGOING = 0x0003, 4  # ETH_P_ALL, PACKET_OUTGOING
_SOL_PACKET, _STATISTICS = 263, 6
_STAMP, _BUFFER_FORCE = 35, 33  # SO_TIMESTAMPNS, SO_RCVBUFFORCE
_CLONE_NEWNET = 0x40000000
_BUFFER = 64 << 20
_LONGEST = 1 << 17
_FIRST_BYTES = 1 << 15  # of a connection, in which it states its name


@dataclass
class Connection:
    """One connection as it left its host. `opened` is the time of its SYN in ns; `name` is "" until it states one."""

    opened: int
    source: str
    source_port: int
    address: str
    port: int
    name: str = ""
    first: bytearray = field(default_factory=bytearray, repr=False)

    def take(self, data: bytes) -> None:
        """Read the name in the first bytes that the client sends."""
        if not self.name and len(self.first) < _FIRST_BYTES:
            self.first += data
            self.name = stated_name(bytes(self.first))


class Wire:
    """The capture at the interfaces of all client hosts."""

    def __init__(self, hosts: list[Host]) -> None:
        self.connections: list[Connection] = []
        self._open: dict[tuple[object, ...], Connection] = {}
        self._sockets = [_packet_socket(host) for host in hosts]

    def read(self, stop: threading.Event) -> None:
        """Read packets until the stop signal is set, and what has arrived by then."""
        with selectors.DefaultSelector() as selector:
            for one in self._sockets:
                selector.register(one, selectors.EVENT_READ)
            while (ready := selector.select(0.1)) or not stop.is_set():
                for key, _ in ready:
                    self._packet(key.fileobj)

    def close(self) -> int:
        """Close the capture; return the number of packets that it missed."""
        missed = 0
        for one in self._sockets:
            missed += struct.unpack("II", one.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
            one.close()
        return missed

    def _packet(self, source: socket.socket) -> None:
        data, extra, _, address = source.recvmsg(_LONGEST, 64)
        packet = Ethernet(data).data
        if address[2] != _OUTGOING or not isinstance(packet, IP | IP6) or not isinstance(packet.data, TCP):
            return
        seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
        self._segment(seconds * 1_000_000_000 + nanoseconds, packet, packet.data)

    def _segment(self, stamp: int, packet: IP | IP6, segment: TCP) -> None:
        key = (packet.src, segment.sport, packet.dst, segment.dport)
        known = self._open.get(key)
        if segment.flags & (TH_SYN | TH_ACK) == TH_SYN:
            if known is None or known.first:  # else the SYN is a repetition
                found = Connection(stamp, _text(packet.src), segment.sport, _text(packet.dst), segment.dport)
                self._open[key] = found
                self.connections.append(found)
        elif known is not None and segment.data:
            known.take(segment.data)


@contextmanager
def watching(hosts: list[Host]) -> Iterator[Wire]:
    """Capture until the end of the block."""
    wire, stop = Wire(hosts), threading.Event()
    thread = threading.Thread(target=wire.read, args=(stop,))
    thread.start()
    try:
        yield wire
    finally:
        stop.set()
        thread.join()
        missed = wire.close()
    assert not missed, f"the capture missed {missed} packets"


def _packet_socket(host: Host) -> socket.socket:
    """Return a socket that captures on the interface of a host; a thread enters its namespace and ends."""
    found: list[socket.socket] = []

    def enter() -> None:
        with Path(f"/run/netns/{host.namespace}").open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        one.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCE, _BUFFER)
        one.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
        one.bind(("eth0", _ALL))
        found.append(one)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0]


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
