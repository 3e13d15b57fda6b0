"""The IP packet in a frame, by link type (https://www.tcpdump.org/linktypes.html), and frames within tunnels."""

from __future__ import annotations

from collections.abc import Callable

_HEADER = 8
_VXLAN = frozenset({4789, 8472})  # RFC 7348, and the default of Linux
_GENEVE = 6081
_GTP = 2152
TUNNELS = _VXLAN | {_GENEVE, _GTP}
_ETHERNET, _RAW_IP = 1, 101  # link types
_IPIP, _6IN4, _GRE = 4, 41, 47  # protocols of IP (RFC 2003, 4213, 2784)
IP_TUNNELS = frozenset({_IPIP, _6IN4, _GRE})
_IP = {_IPIP: 228, _6IN4: 229}  # link types of IPv4 and IPv6
_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000  # GRE: each bit announces 4 bytes (RFC 2890, section 2)
_UNREADABLE = 0x4007  # GRE: a source route (RFC 1701), or a version other than 0
_ERSPAN, _ERSPAN_III = b"\x88\xbe", b"\x22\xeb"  # GRE of mirrored ports (draft-foschiano-erspan-03)
_BRIDGED = b"\x65\x58"
_INNER = {_BRIDGED: _ETHERNET, b"\x08\x00": _RAW_IP, b"\x86\xdd": _RAW_IP}
# (4 or 6, offset of the IP header), or the reason why there is none. A frame cut short yields short slices, no error.
Network = tuple[int, int] | str
_NOT_IP, _CUT = "not_ip", "header_cut"
_IPV4 = b"\x08\x00"
_IPV6 = b"\x86\xdd"
_VLAN = {b"\x81\x00", b"\x88\xa8", b"\x91\x00", b"\x92\x00"}
_MPLS = {b"\x88\x47", b"\x88\x48"}  # unicast, multicast
_LEAST_ETHERTYPE = b"\x06\x00"  # a smaller number is a length (IEEE 802.3, section 3.2.6)
_SNAP = b"\xaa\xaa\x03\x00\x00\x00"  # an EtherType follows (RFC 1042)
_PPPOE_SESSION = b"\x88\x64"
_PPP = {0x21: 4, 0x57: 6}
_CISCO_HDLC = {b"\x0f", b"\x8f"}  # its addresses (RFC 1547, section 4.3.1): unicast, multicast
_NFLOG_PACKET = 9
# AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24, 28 or 30 on the BSDs.
_FAMILIES = {2: 4, 10: 6, 24: 6, 28: 6, 30: 6}


def _ethernet(frame: bytes) -> Network:
    kind = frame[12:14]
    return (4, 14) if kind == _IPV4 else _by_ethertype(frame, kind, 14)


def _by_ethertype(frame: bytes, kind: bytes, offset: int) -> Network:
    """Skip VLAN tags (IEEE 802.1Q, 802.1ad), LLC with SNAP, and the headers of PPPoE (RFC 2516) and MPLS (RFC 3032)."""
    while kind in _VLAN:
        kind = frame[offset + 2 : offset + 4]
        offset += 4
    if kind < _LEAST_ETHERTYPE and frame[offset : offset + 6] == _SNAP:
        kind = frame[offset + 6 : offset + 8]
        offset += 8
    if kind == _IPV4:
        return 4, offset
    if kind == _IPV6:
        return 6, offset
    if kind == _PPPOE_SESSION:
        return _pppoe(frame, offset)
    if kind in _MPLS:
        return _mpls(frame, offset)
    return _NOT_IP if len(kind) == len(_IPV4) else _CUT


def _mpls(frame: bytes, offset: int) -> Network:
    """Skip labels (RFC 3032, section 2.1) down to the bottom of the stack. The packet below states its own version."""
    bottom = 0
    while not bottom:
        if len(frame) < offset + 4:
            return _CUT
        bottom = frame[offset + 2] & 1
        offset += 4
    return _ip(frame, offset)


def _pppoe(frame: bytes, offset: int = 0) -> Network:
    return _ppp_protocol(frame, offset + 6)


def _ppp_protocol(frame: bytes, offset: int) -> Network:
    """Read the number of the protocol, which ends at its first odd byte (RFC 1661, section 2)."""
    size = 1 if frame[offset : offset + 1] and frame[offset] & 1 else 2
    protocol = frame[offset : offset + size]
    version = _PPP.get(int.from_bytes(protocol))
    if version is not None:
        return version, offset + size
    return _NOT_IP if len(protocol) == size else _CUT


def _ppp(frame: bytes) -> Network:
    return _ppp_protocol(frame, 2 if frame[:2] == b"\xff\x03" else 0)


def _cisco_hdlc(frame: bytes) -> Network:
    return _by_ethertype(frame, frame[2:4], 4)


def _radiotap(frame: bytes) -> Network:
    return _wifi(frame, int.from_bytes(frame[2:4], "little"))


def _wifi(frame: bytes, offset: int = 0) -> Network:
    """Skip the header of a data frame (IEEE 802.11, section 9.3.2.1), which LLC with SNAP follows unless encrypted."""
    control = frame[offset : offset + 2]
    if len(control) < 2:
        return _CUT
    kind, flags = control
    if kind & 0x4F != 0x08 or flags & 0x40:  # no data, or protected
        return _NOT_IP
    offset += 30 if flags & 3 == 3 else 24  # from one access point to another there is a fourth address
    if kind & 0x80:
        offset += 6 if flags & 0x80 else 2  # quality of service, and control of high throughput
    return _by_ethertype(frame, bytes(2), offset)


def _nflog(frame: bytes) -> Network:
    """Find the packet among the attributes that Linux' firewall logs, in the byte order of x86 and ARM."""
    at = 4
    while len(frame) >= at + 4:
        size, kind = frame[at] | frame[at + 1] << 8, frame[at + 2] | frame[at + 3] << 8
        if kind == _NFLOG_PACKET:
            return _ip(frame, at + 4)
        at += max((size + 3) & ~3, 4)
    return _CUT


def _raw(frame: bytes) -> Network:
    return _ip(frame, 0)


def _ip(frame: bytes, offset: int) -> Network:
    """Return the version that the packet itself states."""
    if len(frame) <= offset:
        return _CUT
    version = frame[offset] >> 4
    return (version, offset) if version in (4, 6) else _NOT_IP


def _loopback(frame: bytes) -> Network:
    """Read an address family in the byte order of the capturing host, which the file does not state."""
    head = frame[:4]
    if len(head) < 4:
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
    50: lambda frame: _cisco_hdlc(frame) if frame[:1] in _CISCO_HDLC else _ppp(frame),  # serial: either header
    51: _pppoe,
    101: _raw,
    104: _cisco_hdlc,
    105: _wifi,
    108: _loopback,  # OpenBSD; always big-endian
    113: lambda frame: _by_ethertype(frame, frame[14:16], 16),  # Linux cooked
    127: _radiotap,
    228: lambda _: (4, 0),
    229: lambda _: (6, 0),
    239: _nflog,
    276: lambda frame: _by_ethertype(frame, frame[0:2], 20),  # Linux cooked, version 2
}


def inner_frame(port: int, payload: bytes) -> tuple[int, bytes] | None:
    """Return the link type and the frame in a datagram to a tunnel port; None if there is none."""
    if len(payload) < _HEADER:
        return None
    if port == _GTP:
        return _of_gtp(payload)
    if port in _VXLAN:
        return (_ETHERNET, payload[_HEADER:]) if payload[0] & 0x08 else None
    linktype = _INNER.get(payload[2:4])
    if payload[0] >> 6 or linktype is None:
        return None
    return linktype, payload[_HEADER + (payload[0] & 0x3F) * 4 :]


def _of_gtp(payload: bytes) -> tuple[int, bytes] | None:
    """Skip the header of a user's packet, and its extension headers (3GPP TS 29.281, section 5)."""
    if payload[0] >> 4 != 3 or payload[1] != 255:
        return None
    at = 12 if payload[0] & 7 else _HEADER
    is_extended = payload[0] & 4
    while is_extended and payload[at - 1 : at] > b"\0":  # the type of the next one
        size = payload[at : at + 1]
        if size <= b"\0":
            return None
        at += size[0] * 4
    return _RAW_IP, payload[at:]


def inner_packet(protocol: int, payload: bytes) -> tuple[int, bytes] | None:
    """Return the link type and the frame in an IP packet of a protocol of IP_TUNNELS; None if there is none."""
    if protocol in _IP:
        return _IP[protocol], payload
    flags, kind = int.from_bytes(payload[:2]), payload[2:4]
    at = 4 + 4 * (flags & (_CHECKSUM | _KEY | _SEQUENCE)).bit_count()
    if kind == _ERSPAN:
        kind, at = _BRIDGED, at + 8 * (flags & _SEQUENCE > 0)  # the first version has neither number nor header
    elif kind == _ERSPAN_III:
        kind, at = _BRIDGED, at + 12 + 8 * (int.from_bytes(payload[at + 11 : at + 12]) & 1)
    linktype = _INNER.get(kind)
    if flags & _UNREADABLE or linktype is None:
        return None
    return linktype, payload[at:]
