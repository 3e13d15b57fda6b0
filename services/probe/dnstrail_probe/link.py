"""Link layers: where in a frame the IP packet starts, by link type (https://www.tcpdump.org/linktypes.html)."""

from __future__ import annotations

from collections.abc import Callable

# (4 or 6, offset of the IP header); None: no IP in this frame. A cut frame yields short slices, no error.
Network = tuple[int, int] | None

_IPV4 = b"\x08\x00"
_IPV6 = b"\x86\xdd"
_VLAN = {b"\x81\x00", b"\x88\xa8", b"\x91\x00"}
_PPPOE_SESSION = b"\x88\x64"
_PPP = {b"\x00\x21": 4, b"\x00\x57": 6}
# AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24, 28 or 30 on the BSDs.
_FAMILIES = {2: 4, 10: 6, 24: 6, 28: 6, 30: 6}


def _ethernet(frame: bytes) -> Network:
    kind = frame[12:14]
    return (4, 14) if kind == _IPV4 else _by_ethertype(frame, kind, 14)


def _by_ethertype(frame: bytes, kind: bytes, offset: int) -> Network:
    """Follow any stack of VLAN tags (IEEE 802.1Q, 802.1ad) and a PPPoE session header (RFC 2516)."""
    while kind in _VLAN:
        kind = frame[offset + 2 : offset + 4]
        offset += 4
    if kind == _IPV4:
        return 4, offset
    if kind == _IPV6:
        return 6, offset
    return _ppp_protocol(frame, offset + 6) if kind == _PPPOE_SESSION else None


def _ppp_protocol(frame: bytes, offset: int) -> Network:
    version = _PPP.get(frame[offset : offset + 2])
    return None if version is None else (version, offset + 2)


def _ppp(frame: bytes) -> Network:
    return _ppp_protocol(frame, 2 if frame[:2] == b"\xff\x03" else 0)


def _linux_cooked(frame: bytes) -> Network:
    return _by_ethertype(frame, frame[14:16], 16)


def _linux_cooked_2(frame: bytes) -> Network:
    return _by_ethertype(frame, frame[0:2], 20)


def _raw(frame: bytes) -> Network:
    version = frame[0] >> 4 if frame else 0
    return (version, 0) if version in (4, 6) else None


def _loopback(frame: bytes) -> Network:
    """An address family in the byte order of the capturing host, which the file does not tell."""
    head = frame[:4]
    family = int.from_bytes(head, "little" if head[:1] != b"\x00" else "big")
    version = _FAMILIES.get(family)
    return None if version is None else (version, 4)


LINKS: dict[int, Callable[[bytes], Network]] = {
    0: _loopback,  # NULL
    1: _ethernet,
    9: _ppp,
    12: _raw,  # DLT_RAW as most systems number it; files should say 101
    14: _raw,  # and as OpenBSD does
    50: _ppp,  # PPP with its HDLC header
    101: _raw,
    108: _loopback,  # OpenBSD's, always big-endian
    113: _linux_cooked,
    228: lambda _: (4, 0),
    229: lambda _: (6, 0),
    276: _linux_cooked_2,
}
