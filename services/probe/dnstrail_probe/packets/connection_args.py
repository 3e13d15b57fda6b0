"""Connections: the arguments by which their events are joined to a flow, and those that the SYNs of a file open."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import OrderedDict

from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_TCP_CONNECT
from dnstrail_probe.packets.packet import IpPacket
from dnstrail_probe.source import Captures

_TCP = 6
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_PORTS_AND_SEQUENCE = slice(8)  # a connection that reuses both ports has another sequence number
_AGAIN = 60 * 10**9  # ns after a SYN within which a SYN of the same ends and number is its retransmission
MAX_REMEMBERED = 16384
_Ends = tuple[bytes, bytes, bytes]
_SEED = bytes(2)
_PROTOCOLS = {"tcp": 6, "udp": 17}


def connection_args(flow: Flow) -> dict[str, object]:
    """Return destination, socket and Community ID of a connection, as far as they are known."""
    args: dict[str, object] = {"dst": flow.destination_text, "dst_port": flow.destination_port}
    if flow.socket:
        args["socket"] = flow.socket
    if flow.source and flow.source_port:
        ends = flow.source, flow.source_port, flow.destination, flow.destination_port
        args["community_id"] = community_id(flow.transport, *ends)
    return args


def community_id(transport: str, source: bytes, source_port: int, destination: bytes, destination_port: int) -> str:
    """Return the Community ID (version 1, seed 0) of a flow in whichever direction; addresses are packed."""
    ends = sorted(((source, source_port.to_bytes(2)), (destination, destination_port.to_bytes(2))))
    (first, first_port), (second, second_port) = ends
    protocol = bytes([_PROTOCOLS[transport], 0])
    digest = hashlib.sha1(_SEED + first + second + protocol + first_port + second_port, usedforsecurity=False)
    return "1:" + b64encode(digest.digest()).decode()


class TcpOpens:
    """The SYNs seen last; bounded, the oldest is evicted."""

    def __init__(self) -> None:
        self._opened: OrderedDict[_Ends, int] = OrderedDict()

    def add(self, timestamp: int, packet: IpPacket) -> Captures:
        """Return the event of a packet that opens a connection."""
        header = packet.payload
        if packet.protocol != _TCP or len(header) <= _FLAGS or header[_FLAGS] & (_SYN | _ACK) != _SYN:
            return []
        ends = packet.source, packet.destination, header[_PORTS_AND_SEQUENCE]
        before = self._opened.get(ends)
        self._opened[ends] = timestamp
        self._opened.move_to_end(ends)
        if before is not None and timestamp - before <= _AGAIN:
            return []
        if len(self._opened) > MAX_REMEMBERED:
            self._opened.popitem(last=False)
        ports = int.from_bytes(header[:2]), int.from_bytes(header[2:4])
        flow = Flow(packet.source, ports[0], packet.destination, ports[1], "tcp")
        return [(NET_TCP_CONNECT, Captured(timestamp, b"", flow, args=connection_args(flow)))]
