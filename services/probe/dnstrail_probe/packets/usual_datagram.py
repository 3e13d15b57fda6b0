"""The usual DNS packet, read in one step: one UDP datagram in IPv4, without options and in one piece."""

from __future__ import annotations

import struct

from dnstrail.captured import Flow
from dnstrail_probe.packets.link import LINKS
from dnstrail_probe.packets.packet import PIECE, UDP_HEADER, UDP_PROTOCOL

_unpack = struct.Struct("!BxH2xH4x4s4sHHH2x").unpack_from  # IPv4 (RFC 791, section 3.1) and UDP (RFC 768)
_IP_HEADER = 20  # bytes
_HEADERS_SIZE = _IP_HEADER + UDP_HEADER
_NO_OPTIONS = 0x45  # the first byte: version 4, and a header of five words
_PROTOCOL = 9  # its place in the header


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
