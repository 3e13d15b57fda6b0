"""The AF_PACKET source: DNS packets on all interfaces of this network namespace, without processes (packet(7))."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections import Counter
from types import MappingProxyType

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.libc import call
from dnstrail.process.clock import StreamClock
from dnstrail_probe.check import Check, Host, capability
from dnstrail_probe.packets.assembly import LOSSES, Assembly
from dnstrail_probe.source import KERNEL, SUDO, Captures, Opening

MAX_PACKET = 65536  # bytes of a packet
_IPV4, _IPV6 = 4, 6
_TCP, _UDP = 6, 17
_EXTENSIONS = (0, 43, 44, 51, 60)  # IPv6 extension headers: any transport may follow, so the packet passes
_FRAGMENT = 0x3FFF  # in an IPv4 header: the offset of a fragment, or "more fragments"
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_X = 0x30, 0x28, 0x48
_LOAD_X, _LOAD_X_IHL = 0x01, 0xB1  # X = a constant, or the length of the IPv4 header at an offset
_SHIFT_RIGHT, _EQUAL, _ANY_BIT, _RETURN = 0x74, 0x15, 0x45, 0x06
# Code, operand, and the labels to jump to if true and if false ("": the next instruction).
_Instruction = tuple[int, int, str, str]
_Line = _Instruction | str  # or a label
_ETH_P_ALL = 0x0003
_RAW_IP = 101  # link type: SOCK_DGRAM sockets receive packets without their link layer
_OUTGOING = 4
_SO_RCVBUFFORCE = 33  # socket(7): beyond net.core.rmem_max
_SO_TIMESTAMPNS = 35
_SO_ATTACH_FILTER = 26
_PACKET_STATISTICS = 6
_SOL_PACKET = 263
#: bytes of packets that wait in the AF_PACKET socket; without CAP_NET_ADMIN, `net.core.rmem_max` -> `socket_full`
BUFFER = 8 << 20  # the kernel doubles the number for its own overhead
_AT_ONCE = 512
_SECONDS = struct.Struct("@qq")


def open_source(opening: Opening) -> AfPacketSource:
    """Open the socket."""
    return AfPacketSource(opening.options, opening.clock)


class AfPacketSource:
    """The packets that an AF_PACKET socket receives. Opening the socket needs CAP_NET_RAW, reading it needs nothing.

    Invariant: packets that the kernel dropped for want of room are counted as "socket_full".

    Raises:
        SourceUnavailable: the kernel refuses the socket, or its filter.
    """

    live = True
    damage = ""
    capabilities = ()
    lost_by_cgroup = ()
    losses = MappingProxyType({"socket_full": KERNEL, **LOSSES})

    def __init__(self, options: CaptureOptions, clock: StreamClock) -> None:
        self.name = "packet"
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._assembly = Assembly(options, self.counters)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # it receives nothing before its bind
        except PermissionError as error:
            raise SourceUnavailable("packet", "needs CAP_NET_RAW", SUDO) from error
        except OSError as error:
            raise _unavailable(error) from error
        try:
            self._listen(options.ports)
        except OSError as error:
            self._socket.close()
            raise _unavailable(error) from error
        self.descriptor = self._socket.fileno()

    def read(self, timeout: float) -> Captures | None:
        """Return the events of the packets that arrived, after waiting for the first at most `timeout` seconds."""
        received = self._receive(timeout)
        self._count_drops()
        stamps = self._clock.from_wall(stamp for stamp, _ in received)
        now = self._clock.now()
        captured: Captures = []
        for stamp, (_, frame) in zip(stamps, received, strict=True):
            captured += self._assembly.frame(min(stamp, now), _RAW_IP, frame)
        return captured + self._assembly.advance(now)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _listen(self, ports: frozenset[int]) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _enlarge_buffer(self._socket)
        attach_filter(self._socket, packet_filter(ports))
        _bind_to_all_interfaces(self._socket)

    def _receive(self, timeout: float) -> list[tuple[int, bytes]]:
        """Return the packets that arrived, each with the wall time at which the kernel received it."""
        received: list[tuple[int, bytes]] = []
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
                continue  # the loopback delivers it a second time, as incoming
            received.append((_timestamp(ancillary), frame))
        return received

    def _count_drops(self) -> None:
        """Add the kernel's count of dropped packets, which reading resets to 0."""
        _, dropped = struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if dropped:
            self.counters["socket_full"] += dropped


def _unavailable(error: OSError) -> SourceUnavailable:
    return SourceUnavailable("packet", f"no AF_PACKET socket: {error.strerror}")


def attach_filter(packets: socket.socket, program: bytes) -> None:
    """Attach a classic BPF program to a socket (SO_ATTACH_FILTER, socket(7))."""
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def _bind_to_all_interfaces(packets: socket.socket) -> None:
    """Let a socket receive the packets of all protocols on all interfaces; `socket.bind` wants the name of one."""
    address = struct.pack("@HHiHBB8x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0)
    call("bind", packets.fileno(), address, len(address))


def _enlarge_buffer(packets: socket.socket) -> None:
    """Let packets wait for the probe; without CAP_NET_ADMIN only up to net.core.rmem_max."""
    try:
        packets.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
    except PermissionError:
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def _timestamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return the wall time in ns at which the kernel received a packet; 0 if it states none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _SECONDS.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0


def _open_socket(host: Host) -> None:
    AfPacketSource(host.options, Opening().clock).close()


CHECKS = (
    capability("CAP_NET_RAW", "packet"),
    Check("AF_PACKET socket", "packet", _open_socket, SUDO, decisive=True),
)


def packet_filter(ports: frozenset[int]) -> bytes:
    """Return a program that passes UDP and TCP on these ports, and fragments. Packets begin at their IP header."""
    return _assemble(
        [
            (_LOAD_BYTE, 0, "", ""),
            (_SHIFT_RIGHT, 4, "", ""),
            (_EQUAL, _IPV4, "IPv4", ""),
            (_EQUAL, _IPV6, "", "drop"),
            (_LOAD_X, 40, "", ""),
            (_LOAD_BYTE, 6, "", ""),
            *((_EQUAL, header, "pass", "") for header in _EXTENSIONS),
            (_EQUAL, _UDP, "ports", ""),
            (_EQUAL, _TCP, "ports", "drop"),
            "IPv4",
            (_LOAD_X_IHL, 0, "", ""),
            (_LOAD_BYTE, 9, "", ""),
            (_EQUAL, _UDP, "fragments", ""),
            (_EQUAL, _TCP, "fragments", "drop"),
            "fragments",
            (_LOAD_HALF, 6, "", ""),
            (_ANY_BIT, _FRAGMENT, "pass", ""),
            "ports",
            (_LOAD_HALF_X, 0, "", ""),
            *((_EQUAL, port, "pass", "") for port in sorted(ports)),
            (_LOAD_HALF_X, 2, "", ""),
            *((_EQUAL, port, "pass", "") for port in sorted(ports)),
            "drop",
            (_RETURN, 0, "", ""),
            "pass",
            (_RETURN, MAX_PACKET, "", ""),
        ]
    )


def _assemble(lines: list[_Line]) -> bytes:
    """Return the instructions as bytes, with each label as the distance that a jump skips."""
    labels: dict[str, int] = {}
    instructions: list[_Instruction] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    return b"".join(
        struct.pack("@HBBI", code, *(labels[to] - place - 1 if to else 0 for to in (true, false)), operand)
        for place, (code, operand, true, false) in enumerate(instructions)
    )
