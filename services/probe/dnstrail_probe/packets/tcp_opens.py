"""TCP connections found in packets: the first SYN of each becomes a net_tcp_connect event."""

from __future__ import annotations

from collections import OrderedDict

from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_TCP_CONNECT
from dnstrail_probe.packets.connection_args import connection_args
from dnstrail_probe.packets.packet import IpPacket
from dnstrail_probe.source import Captures

_TCP = 6
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_AGAIN = 60 * 10**9  # ns within which a SYN of the same ends is a retransmission
MAX_REMEMBERED = 16384

_Ends = tuple[bytes, bytes, bytes]


class TcpOpens:
    """The ends of the connections opened last; bounded, the oldest is evicted."""

    def __init__(self) -> None:
        self._opened: OrderedDict[_Ends, int] = OrderedDict()

    def add(self, timestamp: int, packet: IpPacket) -> Captures:
        """Return the event of a packet that opens a connection."""
        header = packet.payload
        if packet.protocol != _TCP or len(header) <= _FLAGS or header[_FLAGS] & (_SYN | _ACK) != _SYN:
            return []
        ends = packet.source, packet.destination, header[:4]
        before = self._opened.get(ends)
        if before is not None and timestamp - before <= _AGAIN:
            return []
        self._opened[ends] = timestamp
        self._opened.move_to_end(ends)
        if len(self._opened) > MAX_REMEMBERED:
            self._opened.popitem(last=False)
        ports = int.from_bytes(header[:2]), int.from_bytes(header[2:4])
        flow = Flow(packet.source, ports[0], packet.destination, ports[1], "tcp")
        return [(NET_TCP_CONNECT, Captured(timestamp, b"", flow, args=connection_args(flow)))]
