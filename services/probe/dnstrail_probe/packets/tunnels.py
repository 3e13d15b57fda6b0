"""Frames within UDP: VXLAN (RFC 7348, section 5) and GENEVE (RFC 8926, section 3.4)."""

from __future__ import annotations

_HEADER = 8
_VXLAN, _GENEVE = 4789, 6081
TUNNELS = frozenset({_VXLAN, _GENEVE})
_ETHERNET, _RAW_IP = 1, 101  # link types
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
