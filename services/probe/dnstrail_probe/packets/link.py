"""The offset of the IP packet in a frame, by link type (https://www.tcpdump.org/linktypes.html)."""

from __future__ import annotations

from collections.abc import Callable

# (4 or 6, offset of the IP header), or the reason why there is none. A frame cut short yields short slices, no error.
Network = tuple[int, int] | str
_NOT_IP, _CUT = "not_ip", "link_header_cut"

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
    """Skip VLAN tags (IEEE 802.1Q, 802.1ad) and a PPPoE session header (RFC 2516)."""
    while kind in _VLAN:
        kind = frame[offset + 2 : offset + 4]
        offset += 4
    if kind == _IPV4:
        return 4, offset
    if kind == _IPV6:
        return 6, offset
    if kind == _PPPOE_SESSION:
        return _ppp_protocol(frame, offset + 6)
    return _NOT_IP if len(kind) == len(_IPV4) else _CUT


def _ppp_protocol(frame: bytes, offset: int) -> Network:
    protocol = frame[offset : offset + 2]
    if protocol in _PPP:
        return _PPP[protocol], offset + 2
    return _NOT_IP if len(protocol) == len(_IPV4) else _CUT


def _ppp(frame: bytes) -> Network:
    return _ppp_protocol(frame, 2 if frame[:2] == b"\xff\x03" else 0)


def _linux_cooked(frame: bytes) -> Network:
    return _by_ethertype(frame, frame[14:16], 16)


def _linux_cooked_2(frame: bytes) -> Network:
    return _by_ethertype(frame, frame[0:2], 20)


def _raw(frame: bytes) -> Network:
    if not frame:
        return _CUT
    version = frame[0] >> 4
    return (version, 0) if version in (4, 6) else _NOT_IP


def _loopback(frame: bytes) -> Network:
    """Read an address family in the byte order of the capturing host, which the file does not state."""
    head = frame[:4]
    if len(head) < 4:  # noqa: PLR2004
        return _CUT
    family = int.from_bytes(head, "little" if head[:1] != b"\x00" else "big")
    version = _FAMILIES.get(family)
    return _NOT_IP if version is None else (version, 4)


LINKS: dict[int, Callable[[bytes], Network]] = {
    0: _loopback,  # NULL
    1: _ethernet,
    9: _ppp,
    12: _raw,  # DLT_RAW on most systems; files should use 101
    14: _raw,  # DLT_RAW on OpenBSD
    50: _ppp,  # PPP with its HDLC header
    101: _raw,
    108: _loopback,  # OpenBSD; always big-endian
    113: _linux_cooked,
    228: lambda _: (4, 0),
    229: lambda _: (6, 0),
    276: _linux_cooked_2,
}
