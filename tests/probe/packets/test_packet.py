from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Ether

from dnstrail_probe.packets.link import LINKS
from dnstrail_probe.packets.packet import Datagram, Fragment, IpPacket, Segment, ip_packet, transport, upper_layer
from dnstrail_probe.packets.tcp_header import TcpHeader

RAW, ETHERNET = 101, 1
BODY = b"a DNS message"
A, B = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
A6, B6 = bytes(15) + b"\x01", bytes(15) + b"\x02"

IP4 = IP(src="192.0.2.1", dst="192.0.2.2")
IP6 = IPv6(src="::1", dst="::2")
TO_53 = UDP(sport=4000, dport=53)
UDP4 = bytes(IP4 / TO_53 / BODY)

WHOLE = Datagram(A, 4000, B, 53, BODY)
WHOLE6 = Datagram(A6, 4000, B6, 53, BODY)
CUT = Datagram(A, 4000, B, 53, BODY[:5])
SEGMENT = TCP(sport=4000, dport=53, seq=7, flags="PA")
PSH_ACK = TcpHeader(7, flags=0x18, window=8192)


def dissect(linktype, frame, ports=None):
    packet = ip_packet(linktype, frame)
    if isinstance(packet, str):
        return packet
    return "fragment" if packet.fragment else transport(packet, ports)


IPV4 = {
    "plain": (UDP4, WHOLE),
    "header options": (IP(src="192.0.2.1", dst="192.0.2.2", options=b"\x01" * 8) / TO_53 / BODY, WHOLE),
    "padding after the packet": (UDP4 + bytes(20), WHOLE),
    "total length left to the card": (IP(src="192.0.2.1", dst="192.0.2.2", len=0) / TO_53 / BODY, WHOLE),
    "frame cut in the payload": (UDP4[:33], CUT),
    "frame cut in the UDP header": (UDP4[:27], "header_cut"),
    "frame cut in the IP header": (UDP4[:19], "header_cut"),
    "do not fragment": (IP(src="192.0.2.1", dst="192.0.2.2", flags="DF") / TO_53 / BODY, WHOLE),
    "first fragment": (IP(src="192.0.2.1", dst="192.0.2.2", flags="MF") / TO_53 / BODY, "fragment"),
    "last fragment": (IP(src="192.0.2.1", dst="192.0.2.2", frag=2, proto=17) / BODY, "fragment"),
    "total length below the header's": (
        IP(src="192.0.2.1", dst="192.0.2.2", len=10) / TO_53,
        "bad_header",
    ),
    "header length below 20": (b"\x44" + UDP4[1:], "bad_header"),
    "TCP": (IP4 / SEGMENT / BODY, Segment(A, 4000, B, 53, PSH_ACK, payload=BODY)),
    "TCP, with options": (
        IP4 / TCP(sport=4000, dport=53, seq=7, flags="S", options=[("MSS", 1460)]) / BODY,
        Segment(A, 4000, B, 53, TcpHeader(7, flags=2, window=8192), payload=BODY),
    ),
    "TCP, padding after the packet": (
        bytes(IP4 / SEGMENT) + bytes(6),
        Segment(A, 4000, B, 53, PSH_ACK, payload=b""),
    ),
    "frame cut in the TCP header": (bytes(IP4 / SEGMENT)[:39], "header_cut"),
    "TCP header length below 20": (IP4 / TCP(sport=4000, dport=53, dataofs=4), "bad_header"),
    "TCP header length past the packet": (
        IP4 / TCP(sport=4000, dport=53, seq=7, flags="A", dataofs=15) / BODY,
        Segment(A, 4000, B, 53, TcpHeader(7, flags=0x10, window=8192), payload=b""),
    ),
    "ICMP": (IP(src="192.0.2.1", dst="192.0.2.2", proto=1) / BODY, "other_protocol"),
    "UDP length short of the packet": (
        IP4 / UDP(sport=4000, dport=53, len=13) / BODY,
        CUT,
    ),
    "UDP length past the packet": (IP4 / UDP(sport=4000, dport=53, len=400) / BODY, WHOLE),
    "UDP length 0, as no IPv4 host takes it": (
        IP4 / UDP(sport=4000, dport=53, len=0) / BODY,
        "bad_header",
    ),
    "UDP length 7": (IP4 / UDP(sport=4000, dport=53, len=7) / BODY, "bad_header"),
    "empty payload": (IP4 / TO_53, Datagram(A, 4000, B, 53, b"")),
}

IPV6 = {
    "plain": (IP6 / TO_53 / BODY, WHOLE6),
    "padding after the packet": (bytes(IP6 / TO_53 / BODY) + bytes(9), WHOLE6),
    "hop-by-hop and destination options": (
        IP6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / TO_53 / BODY,
        WHOLE6,
    ),
    "routing": (IP6 / IPv6ExtHdrRouting(addresses=["::2", "::3"], segleft=0) / TO_53 / BODY, WHOLE6),
    "authentication header": (IP6 / AH(icv=bytes(12), nh=17, payloadlen=4) / TO_53 / BODY, WHOLE6),
    "atomic fragment": (IP6 / IPv6ExtHdrFragment(offset=0, m=0) / TO_53 / BODY, WHOLE6),
    "first fragment": (IP6 / IPv6ExtHdrFragment(offset=0, m=1) / TO_53 / BODY, "fragment"),
    "last fragment": (IP6 / IPv6ExtHdrFragment(offset=3, m=0) / TO_53 / BODY, "fragment"),
    "cut in an extension header": (bytes(IP6 / IPv6ExtHdrHopByHop() / TO_53)[:41], "header_cut"),
    "no next header": (IPv6(src="::1", dst="::2", nh=59), "other_protocol"),
    "TCP": (IP6 / IPv6ExtHdrHopByHop() / SEGMENT / BODY, Segment(A6, 4000, B6, 53, PSH_ACK, payload=BODY)),
    "UDP length 0, as a jumbogram has it": (IP6 / UDP(sport=4000, dport=53, len=0) / BODY, WHOLE6),
    "payload length 0": (IPv6(src="::1", dst="::2", plen=0) / TO_53 / BODY, "header_cut"),
}


@pytest.mark.parametrize("case", IPV4)
def test_ipv4(case):
    """A frame with IPv4 yields its datagram, or the reason why it has none."""
    frame, expected = IPV4[case]
    assert dissect(RAW, bytes(frame)) == expected


@pytest.mark.parametrize("case", IPV6)
def test_ipv6(case):
    """A frame with IPv6 yields the datagram after its extension headers, or the reason why it has none."""
    frame, expected = IPV6[case]
    assert dissect(RAW, bytes(frame)) == expected


def test_ethernet_padding_is_no_payload():
    """The padding of a short Ethernet frame is no payload."""
    frame = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP4 / TO_53 / b"abc").ljust(60, b"\0")
    assert dissect(ETHERNET, frame).payload == b"abc"


@pytest.mark.parametrize(("linktype", "reason"), [(147, "link_type_not_supported"), (ETHERNET, "not_ip")])
def test_frames_without_ip_have_a_reason(linktype, reason):
    """An unknown link type and a frame of another protocol have different reasons."""
    assert dissect(linktype, bytes(60)) == reason


@pytest.mark.parametrize("linktype", [228, 229])
def test_the_version_is_checked(linktype):
    """A packet whose version differs from that of its link type is refused."""
    assert dissect(linktype, b"\x55" + bytes(60)) == "bad_header"


@pytest.mark.parametrize(("ports", "found"), [({53}, True), ({4000}, True), ({5353}, False), (set(), False)])
def test_ports_select_on_either_side(ports, found):
    """A datagram counts if either of its ports is of interest."""
    assert dissect(RAW, UDP4, frozenset(ports)) == (WHOLE if found else "other_port")


def test_fragments_of_ipv4_have_their_place():
    """An IPv4 fragment yields its identification, its offset in bytes, and whether more follow."""
    frame = bytes(IP(src="192.0.2.1", dst="192.0.2.2", id=7, frag=3, flags="MF", proto=17) / BODY)
    assert ip_packet(RAW, frame) == IpPacket(A, B, 17, BODY, Fragment(7, 24, more=True))


def test_fragments_of_ipv6_are_put_together_behind_their_header():
    """An IPv6 packet reassembled from two fragments yields the same datagram as the whole packet."""
    whole = bytes(IPv6ExtHdrDestOpt(nh=17) / TO_53 / BODY)[:8] + bytes(IP6 / TO_53 / BODY)[40:]
    pieces = [whole[:16], whole[16:]]
    heads = [IPv6ExtHdrFragment(nh=60, id=9, offset=0, m=1), IPv6ExtHdrFragment(nh=60, id=9, offset=2, m=0)]
    found = [ip_packet(RAW, bytes(IP6 / head / piece)) for head, piece in zip(heads, pieces, strict=True)]
    assert [packet.fragment for packet in found] == [Fragment(9, 0, more=True), Fragment(9, 16, more=False)]
    protocol, payload, fragment = upper_layer(found[0].protocol, b"".join(packet.payload for packet in found))
    assert transport(IpPacket(A6, B6, protocol, payload, fragment)) == WHOLE6


def test_a_long_chain_of_extension_headers_ends():
    """Thousands of extension headers in one packet are walked once."""
    chain = b"\x3c\x00" + bytes(6)
    packet = struct.pack("!IHBB", 6 << 28, 65528, 60, 1) + A6 + B6 + chain * 8191
    assert dissect(RAW, packet) == "header_cut"


@given(st.sampled_from([*LINKS]), st.binary(max_size=200), st.sampled_from([None, frozenset({53})]))
def test_any_bytes_yield_a_datagram_or_a_reason(linktype, frame, ports):
    """Arbitrary bytes of any link type raise no error."""
    assert isinstance(dissect(linktype, frame, ports), Datagram | Segment | str)


@given(st.sampled_from([UDP4, bytes(IP6 / IPv6ExtHdrHopByHop() / SEGMENT / BODY)]), st.data())
def test_mutations_yield_a_datagram_or_a_reason(frame, data):
    """A valid packet with any byte changed and any length cut raises no error."""
    mutated = bytearray(frame)
    for place in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=6)):
        mutated[place] = data.draw(st.integers(0, 255))
    assert isinstance(dissect(RAW, bytes(mutated[: data.draw(st.integers(0, len(frame)))])), Datagram | Segment | str)
