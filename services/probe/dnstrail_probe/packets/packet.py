"""Finds the datagram or segment in a frame, or the reason why there is none."""

from __future__ import annotations

import struct

import msgspec

from dnstrail_probe.packets.link import LINKS
from dnstrail_probe.packets.tcp_header import TcpHeader, read_tcp

_IPV4 = struct.Struct("!BxHHHxB2x4s4s")  # RFC 791, section 3.1
_IPV6 = struct.Struct("!B3xHBx16s16s")  # RFC 8200, section 3
_UDP = struct.Struct("!HHH")  # RFC 768; the checksum is not checked: offloading leaves it unset
UDP_HEADER = 8
PIECE = 0x3FFF  # the bits of the flags of IPv4 that a fragment sets: "more fragments", and its offset
_PORTS = struct.Struct("!HH")
_IPV4_ADDRESS = 4
_EXTENSION = struct.Struct("!BB")
_FRAGMENT_HEADER = struct.Struct("!B1xHI")  # RFC 8200, section 4.5

_TCP_PROTOCOL, UDP_PROTOCOL, _FRAGMENT, _AUTHENTICATION = 6, 17, 44, 51
_EXTENSIONS = frozenset({0, 43, _FRAGMENT, _AUTHENTICATION, 60})  # and hop-by-hop, routing, destination


class Datagram(msgspec.Struct, frozen=True, gc=False):
    """One UDP datagram; addresses packed, 4 or 16 bytes."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    payload: bytes


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One TCP segment; addresses packed, 4 or 16 bytes."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    header: TcpHeader
    payload: bytes


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """The place of a fragment: identification of the packet, offset in bytes, and true if more fragments follow."""

    identification: int
    offset: int
    more: bool


class IpPacket(msgspec.Struct, frozen=True, gc=False):
    """One IP packet: `payload` follows all its headers and is of the kind `protocol`."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    fragment: Fragment | None = None  # if set, `payload` is a piece; it begins with a header only at offset 0


def ip_packet(linktype: int, frame: bytes) -> IpPacket | str:
    """Return the IP packet (it can be a fragment) in a frame, or the reason why there is none."""
    link = LINKS.get(linktype)
    if link is None:
        return "link_type_not_supported"
    network = link(frame)
    if isinstance(network, str):
        return network
    version, offset = network
    try:
        return _ipv4(frame, offset) if version == 4 else _ipv6(frame, offset)
    except struct.error:
        return "header_cut"


def transport(packet: IpPacket, ports: frozenset[int] | None = None) -> Datagram | Segment | str:
    """Return the datagram or segment in a whole IP packet, or the reason why there is none.

    `ports` (None: all) are the ports of interest, at either end. A payload that the capture cut short counts as far as
    it was captured.
    """
    if packet.protocol == UDP_PROTOCOL:
        return _udp(packet, ports)
    return _tcp(packet, ports) if packet.protocol == _TCP_PROTOCOL else "other_protocol"


def _udp(packet: IpPacket, ports: frozenset[int] | None) -> Datagram | str:
    payload = packet.payload
    if len(payload) < UDP_HEADER:
        return "header_cut"
    source_port, destination_port, length = _UDP.unpack_from(payload)
    if ports is not None and source_port not in ports and destination_port not in ports:
        return "other_port"
    if length < UDP_HEADER:
        if length or len(packet.source) == _IPV4_ADDRESS:
            return "bad_header"
        length = len(payload)  # only IPv6 allows a length of 0 (RFC 2675, section 4)
    return Datagram(packet.source, source_port, packet.destination, destination_port, payload[UDP_HEADER:length])


def _tcp(packet: IpPacket, ports: frozenset[int] | None) -> Segment | str:
    if len(packet.payload) < _PORTS.size:
        return "header_cut"
    source_port, destination_port = _PORTS.unpack_from(packet.payload)
    if ports is not None and source_port not in ports and destination_port not in ports:
        return "other_port"
    found = read_tcp(packet.payload)
    if isinstance(found, str):
        return found
    return Segment(packet.source, source_port, packet.destination, destination_port, *found)


def _ipv4(frame: bytes, offset: int) -> IpPacket | str:
    first, total, identification, flags, protocol, source, destination = _IPV4.unpack_from(frame, offset)
    header = (first & 0x0F) * 4
    # A total length of 0 was left for the network card to fill in: the packet ends with the frame.
    length = total or len(frame) - offset
    if first >> 4 != 4 or header < _IPV4.size or length < header:
        return "bad_header"
    payload = frame[offset + header : offset + length]
    if not flags & PIECE:
        return IpPacket(source, destination, protocol, payload)
    fragment = Fragment(identification, (flags & 0x1FFF) * 8, bool(flags & 0x2000))
    return IpPacket(source, destination, protocol, payload, fragment)


def _ipv6(frame: bytes, offset: int) -> IpPacket | str:
    first, length, protocol, source, destination = _IPV6.unpack_from(frame, offset)
    if first >> 4 != 6:
        return "bad_header"
    start = offset + _IPV6.size
    payload = frame[start : start + length]
    if protocol == UDP_PROTOCOL:
        return IpPacket(source, destination, protocol, payload)
    return IpPacket(source, destination, *upper_layer(protocol, payload))


def upper_layer(protocol: int, payload: bytes) -> tuple[int, bytes, Fragment | None]:
    """Return what follows the extension headers of IPv6 (RFC 8200, section 4): protocol, payload, fragment.

    The walk ends at a fragment header, since the headers after it can be in another piece; a reassembled packet passes
    here again.

    Raises:
        struct.error: a header is cut short.
    """
    offset = 0
    while protocol in _EXTENSIONS:
        if protocol == _FRAGMENT:
            protocol, place, identification = _FRAGMENT_HEADER.unpack_from(payload, offset)
            offset += _FRAGMENT_HEADER.size
            if place & 0xFFF9:  # with neither offset nor "more" it is an atomic fragment, which is whole (RFC 6946)
                return protocol, payload[offset:], Fragment(identification, place & 0xFFF8, bool(place & 1))
        else:
            # AH states its length in units of 4 bytes (RFC 4302, section 2.2), the others in units of 8.
            unit, less = (4, 2) if protocol == _AUTHENTICATION else (8, 1)
            protocol, length = _EXTENSION.unpack_from(payload, offset)
            offset += (length + less) * unit
    return protocol, payload[offset:], None
