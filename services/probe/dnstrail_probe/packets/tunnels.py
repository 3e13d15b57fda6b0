"""Frames within UDP and IP: VXLAN (RFC 7348, section 5), GENEVE (RFC 8926, section 3.4), GRE and IP in IP."""

from __future__ import annotations

_HEADER = 8
_VXLAN, _GENEVE = 4789, 6081
TUNNELS = frozenset({_VXLAN, _GENEVE})
_ETHERNET, _RAW_IP = 1, 101  # link types
_IPIP, _6IN4, _GRE = 4, 41, 47  # protocols of IP (RFC 2003, 4213, 2784)
IP_TUNNELS = frozenset({_IPIP, _6IN4, _GRE})
_IP = {_IPIP: 228, _6IN4: 229}  # link types of IPv4 and IPv6
_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000  # GRE: each bit announces 4 bytes (RFC 2890, section 2)
_UNREADABLE = 0x4007  # GRE: a source route (RFC 1701), or a version other than 0
_INNER = {b"\x65\x58": _ETHERNET, b"\x08\x00": _RAW_IP, b"\x86\xdd": _RAW_IP}


def inner_frame(port: int, payload: bytes) -> tuple[int, bytes] | None:
    """Return the link type and the frame in a datagram to a tunnel port; None if there is none."""
    if len(payload) < _HEADER:
        return None
    if port == _VXLAN:
        return (_ETHERNET, payload[_HEADER:]) if payload[0] & 0x08 else None
    linktype = _INNER.get(payload[2:4])
    if payload[0] >> 6 or linktype is None:
        return None
    return linktype, payload[_HEADER + (payload[0] & 0x3F) * 4 :]


def inner_packet(protocol: int, payload: bytes) -> tuple[int, bytes] | None:
    """Return the link type and the frame in an IP packet of a protocol of IP_TUNNELS; None if there is none."""
    if protocol in _IP:
        return _IP[protocol], payload
    flags, linktype = int.from_bytes(payload[:2]), _INNER.get(payload[2:4])
    if flags & _UNREADABLE or linktype is None:
        return None
    return linktype, payload[4 + 4 * (flags & (_CHECKSUM | _KEY | _SEQUENCE)).bit_count() :]
