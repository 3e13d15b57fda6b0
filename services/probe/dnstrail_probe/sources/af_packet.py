"""The AF_PACKET source: DNS packets on all interfaces of this namespace, without their processes (packet(7))."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections import Counter

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.source import Captures
from dnstrail_probe.sources.af_packet_filter import MAX_PACKET, packet_filter

_ETH_P_ALL = 0x0003
_RAW_IP = 101  # with SOCK_DGRAM the kernel has taken the link layer off
_OUTGOING = 4
_SO_TIMESTAMPNS = 35
_SO_ATTACH_FILTER = 26
_PACKET_STATISTICS = 6
_SOL_PACKET = 263
_BUFFER = 8 << 20
_AT_ONCE = 512
_SECONDS = struct.Struct("@qq")


class AfPacketSource:
    """What an AF_PACKET socket sees; needs CAP_NET_RAW.

    Raises:
        SourceUnavailable: the socket is refused.
    """

    live = True

    def __init__(self, options: CaptureOptions) -> None:
        self.name = "packet"
        self.counters: Counter[str] = Counter()
        self._assembly = Assembly(options, self.counters)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        except PermissionError as error:
            raise SourceUnavailable("packet", "needs CAP_NET_RAW: run it with sudo") from error
        except OSError as error:
            raise SourceUnavailable("packet", f"no AF_PACKET socket: {error.strerror}") from error
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        attach_filter(self._socket, packet_filter(options.ports, first_bytes=options.server_names))

    def read(self, timeout: float) -> Captures | None:
        """What has come; waits for `timeout` seconds where nothing has."""
        captured: Captures = []
        self._socket.settimeout(timeout)
        for _ in range(_AT_ONCE):
            try:
                frame, ancillary, _, address = self._socket.recvmsg(MAX_PACKET, 64)
            except (TimeoutError, BlockingIOError):
                break
            except OSError:  # an interface went down
                self.counters["interface_error"] += 1
                break
            self._socket.settimeout(0)
            self.counters["packets"] += 1
            if address[2] == _OUTGOING and address[0] == "lo":
                continue  # it comes again, as incoming
            captured += self._assembly.frame(_stamp(ancillary), _RAW_IP, frame)
        self._count_drops()
        return captured + self._assembly.advance(time.time_ns())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

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


def attach_filter(packets: socket.socket, program: bytes) -> None:
    """Have the kernel drop what a classic BPF program drops (SO_ATTACH_FILTER, socket(7))."""
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
