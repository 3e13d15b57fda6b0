"""Turns frames into events, for every source: reassembles fragments and segments, and opens tunnels."""

from __future__ import annotations

import struct
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_PACKET_DNS, NET_SERVER_NAME
from dnstrail_probe.packets.connection_args import TcpOpens
from dnstrail_probe.packets.dns_over_tcp import DnsMessages
from dnstrail_probe.packets.fragments import Fragments
from dnstrail_probe.packets.link import IP_TUNNELS, LINKS, TUNNELS, inner_frame, inner_packet
from dnstrail_probe.packets.packet import (
    PIECE,
    UDP_HEADER,
    UDP_PROTOCOL,
    Datagram,
    IpPacket,
    Segment,
    ip_packet,
    transport,
)
from dnstrail_probe.packets.server_names.quic_version import may_be_initial
from dnstrail_probe.packets.server_names.reader import ServerName, ServerNameReader
from dnstrail_probe.packets.tcp_header import TcpHeader
from dnstrail_probe.packets.tcp_streams import Streams
from dnstrail_probe.source import PROBE, Captures

if TYPE_CHECKING:
    from dnstrail_probe.packets.server_names.quic_hellos import QuicHellos

_unpack = struct.Struct("!BxH2xH4x4s4sHHH2x").unpack_from  # IPv4 (RFC 791, section 3.1) and UDP (RFC 768)
_IP_HEADER = 20  # bytes
_HEADERS_SIZE = _IP_HEADER + UDP_HEADER
_NO_OPTIONS = 0x45  # the first byte: version 4, and a header of five words
_PROTOCOL = 9  # its place in the header
LOSSES = {"tcp_evicted": PROBE, "fragment_evicted": PROBE}  # counters of what was lost, and the hop
_DEEPEST = 4  #: tunnels within tunnels -> the packet counts as `other_port`, or as `other_protocol`


class Assembly:
    """The reassembly of the packets of one source: fragments, TCP streams, tunnels.

    Every packet that yields no event is counted in `counters` by its reason. Times come with the packets; everything
    held is bounded. `connects`: also report each TCP connection that is opened. `server_names`: report
    server names, too.
    """

    def __init__(self, options: CaptureOptions, counters: Counter[str], *, connects: bool = False) -> None:
        self._ports = options.ports
        self._all_ports = None if options.server_names else options.ports | TUNNELS
        self._counters = counters
        self._fragments = Fragments(counters)
        self._connects = TcpOpens() if connects else None
        self.evicted: Counter[int] = Counter()  # TCP streams by the cgroup of their process, until a reader clears it
        self._dns = Streams(
            counters, lambda from_start: DnsMessages(counters, from_start=from_start), evicted=self.evicted
        )
        self._names = Streams(counters, lambda _: ServerNameReader(counters), evicted=self.evicted)
        self._quic = _quic_hellos(counters) if options.server_names else None
        self.server_names = options.server_names

    def frame(self, timestamp: int, linktype: int, frame: bytes, depth: int = 0) -> Captures:
        """Return the events that a frame completes."""
        if usual := usual_datagram(linktype, frame, self._ports):
            flow, payload = usual
            return [(NET_PACKET_DNS, Captured(timestamp, payload, flow))]
        packet = ip_packet(linktype, frame)
        if isinstance(packet, str):
            return self._passed_over(packet)
        if packet.fragment is None:
            return self._whole(timestamp, packet, depth)
        whole = self._fragments.add(packet, packet.fragment, timestamp)
        return [] if whole is None else self._whole(timestamp, whole, depth)

    def segment(self, segment: Captured, flow: Flow, header: TcpHeader) -> Captures:
        """Return the DNS messages that a TCP segment completes; its data are the payload of `segment`."""
        self._counters["tcp_segments" if segment.payload or header.syn else "tcp_without_data"] += 1
        return _messages(self._dns.add(segment, flow, header))

    def first_bytes(self, segment: Captured, flow: Flow, header: TcpHeader) -> Captures:
        """Return the server names that a TCP segment completes; its data are the payload of `segment`."""
        return _names(self._names.add(segment, flow, header))

    def first_datagram(self, datagram: Captured) -> Captures:
        """Return the server names that a UDP datagram completes, if it begins a QUIC connection."""
        if not may_be_initial(datagram.payload):
            return []
        if self._quic is None:
            return self._passed_over("quic_not_read")
        return _names(self._quic.add(datagram))

    def advance(self, now: int) -> Captures:
        """Return the events that need not wait any longer at this time, in ns since the epoch."""
        self._fragments.expire(now)
        if self._quic:
            self._quic.expire(now)
        return _messages(self._dns.expire(now)) + _names(self._names.expire(now))

    def finish(self) -> Captures:
        """Return the events that are complete at the end of the source."""
        self._fragments.finish()
        if self._quic:
            self._quic.finish()
        return _messages(self._dns.finish()) + _names(self._names.finish())

    def _whole(self, timestamp: int, packet: IpPacket, depth: int) -> Captures:
        found = self._transport(timestamp, packet, depth)
        return found if self._connects is None else self._connects.add(timestamp, packet) + found

    def _transport(self, timestamp: int, packet: IpPacket, depth: int) -> Captures:
        if packet.protocol in IP_TUNNELS and depth < _DEEPEST:
            inner = inner_packet(packet.protocol, packet.payload)
            if inner is not None:
                return self.frame(timestamp, *inner, depth + 1)
        found = transport(packet, self._all_ports)
        if isinstance(found, str):
            return self._passed_over(found)
        if found.source_port not in self._ports and found.destination_port not in self._ports:
            return self._other_port(timestamp, found, depth)
        if isinstance(found, Datagram):
            return self._datagram(timestamp, found)
        flow = _tcp_flow(found)
        return self.segment(Captured(timestamp, found.payload, flow), flow, found.header)

    def _datagram(self, timestamp: int, datagram: Datagram) -> Captures:
        if not datagram.payload:
            return self._passed_over("empty_payload")
        return [(NET_PACKET_DNS, Captured(timestamp, datagram.payload, _udp_flow(datagram)))]

    def _other_port(self, timestamp: int, found: Datagram | Segment, depth: int) -> Captures:
        if isinstance(found, Datagram) and found.destination_port in TUNNELS and depth < _DEEPEST:
            inner = inner_frame(found.destination_port, found.payload)
            if inner is not None:
                return self.frame(timestamp, *inner, depth + 1)
        self._counters["other_port"] += 1
        if not self.server_names:
            return []
        if isinstance(found, Datagram):
            return self.first_datagram(Captured(timestamp, found.payload, _udp_flow(found)))
        flow = _tcp_flow(found)
        return self.first_bytes(Captured(timestamp, found.payload, flow), flow, found.header)

    def _passed_over(self, reason: str) -> Captures:
        self._counters[reason] += 1
        return []


def _quic_hellos(counters: Counter[str]) -> QuicHellos | None:
    """Return the reader of QUIC; None if the extra `quic` is not installed."""
    if find_spec("cryptography") is None:
        return None
    hellos: QuicHellos = import_module("dnstrail_probe.packets.server_names.quic_hellos").QuicHellos(counters)
    return hellos


def _udp_flow(datagram: Datagram) -> Flow:
    return Flow(datagram.source, datagram.source_port, datagram.destination, datagram.destination_port)


def _tcp_flow(segment: Segment) -> Flow:
    return Flow(segment.source, segment.source_port, segment.destination, segment.destination_port, "tcp")


def _messages(found: list[tuple[Captured, bytes]]) -> Captures:
    return [(NET_PACKET_DNS, msgspec.structs.replace(context, payload=message)) for context, message in found]


def _names(found: list[tuple[Captured, ServerName]]) -> Captures:
    return [
        (NET_SERVER_NAME, msgspec.structs.replace(context, args={"server_name": one.name, "evidence": one.evidence}))
        for context, one in found
    ]


def usual_datagram(linktype: int, frame: bytes, ports: frozenset[int]) -> tuple[Flow, bytes] | None:
    """Return the flow and the payload of a usual packet from or to one of these ports.

    Return None for any other packet: `packet.py` reads it, or states the reason why there is none.
    """
    link = LINKS.get(linktype)
    network = link(frame) if link else "link_type_not_supported"
    if isinstance(network, str):
        return None
    version, start = network
    if version != 4 or len(frame) <= start + _HEADERS_SIZE or frame[start + _PROTOCOL] != UDP_PROTOCOL:
        return None
    first, total, flags, source, destination, source_port, destination_port, length = _unpack(frame, start)
    if first != _NO_OPTIONS or flags & PIECE or length <= UDP_HEADER or total != _IP_HEADER + length:
        return None
    if source_port not in ports and destination_port not in ports:
        return None
    return Flow(source, source_port, destination, destination_port), frame[start + _HEADERS_SIZE : start + total]
