"""The AF_PACKET source: DNS packets on all interfaces of this namespace, without their processes (packet(7))."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections import Counter

from dnstrail.errors import SourceUnavailable
from dnstrail.events import NET_PACKET_DNS, Captured, Flow
from dnstrail_probe.captures import Captures
from dnstrail_probe.packet import dissect

_ETH_P_ALL = 0x0003
_RAW_IP = 101  # with SOCK_DGRAM the kernel has taken the link layer off
_OUTGOING = 4
_SO_TIMESTAMPNS = 35
_SO_ATTACH_FILTER = 26
_PACKET_STATISTICS = 6
_SOL_PACKET = 263
_BUFFER = 8 << 20
_AT_ONCE = 512
_LARGEST = 65536
_SECONDS = struct.Struct("@qq")


class PacketSource:
    """What an AF_PACKET socket sees; needs CAP_NET_RAW.

    Raises:
        SourceUnavailable: the socket is refused.
    """

    live = True

    def __init__(self, ports: frozenset[int]) -> None:
        self.name = "packet"
        self.counters: Counter[str] = Counter()
        self._ports = ports
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        except PermissionError as error:
            raise SourceUnavailable("packet", "needs CAP_NET_RAW: run it with sudo") from error
        except OSError as error:
            raise SourceUnavailable("packet", f"no AF_PACKET socket: {error.strerror}") from error
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        _attach_filter(self._socket)

    def read(self, timeout: float) -> Captures | None:
        """What has come; waits for `timeout` seconds where nothing has."""
        captured: Captures = []
        self._socket.settimeout(timeout)
        for _ in range(_AT_ONCE):
            try:
                frame, ancillary, _, address = self._socket.recvmsg(_LARGEST, 64)
            except (TimeoutError, BlockingIOError):
                break
            except OSError:  # an interface went down
                self.counters["interface_error"] += 1
                break
            self._socket.settimeout(0)
            self.counters["packets"] += 1
            if address[2] == _OUTGOING and address[0] == "lo":
                continue  # it comes again, as incoming
            event = self._event(_stamp(ancillary), frame)
            if event:
                captured.append((NET_PACKET_DNS, event))
        self._count_drops()
        return captured

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _event(self, timestamp: int, frame: bytes) -> Captured | None:
        found = dissect(_RAW_IP, frame, self._ports)
        if isinstance(found, str) or not found.payload:
            self.counters[found if isinstance(found, str) else "empty_payload"] += 1
            return None
        flow = Flow(found.source, found.source_port, found.destination, found.destination_port)
        return Captured(timestamp, found.payload, flow)

    def _count_drops(self) -> None:
        """The kernel's count starts anew at each look."""
        _, dropped = struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if dropped:
            self.counters["socket_full"] += dropped


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _SECONDS.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0


def _attach_filter(packets: socket.socket) -> None:
    """Let UDP pass, and IPv6 that is no TCP, by a classic BPF program in the kernel; the dissector does the rest."""
    program = b"".join(struct.pack("@HBBI", *instruction) for instruction in _PROGRAM)
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HxxxxxxP", len(_PROGRAM), ctypes.addressof(code))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


_KEEP, _DROP = (0x06, 0, 0, _LARGEST), (0x06, 0, 0, 0)
# Code, jump if true, jump if false, operand (linux/filter.h).
_PROGRAM = (
    (0x30, 0, 0, 0),  # 0: load byte 0
    (0x74, 0, 0, 4),  # 1: shift right by 4: the version
    (0x15, 0, 3, 4),  # 2: 4? on : to 6
    (0x30, 0, 0, 9),  # 3: load the protocol
    (0x15, 0, 5, 17),  # 4: UDP? on : to 10
    _KEEP,
    (0x15, 0, 3, 6),  # 6: 6? on : to 10
    (0x30, 0, 0, 6),  # 7: load the next header
    (0x15, 1, 0, 6),  # 8: TCP? to 10 : on
    _KEEP,
    _DROP,
)
