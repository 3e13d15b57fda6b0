from __future__ import annotations

from collections import Counter

import pytest
from scapy.contrib.erspan import ERSPAN_I, ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.contrib.gtp import GTP_U_Header, GTPEchoRequest, GTPPDUSessionContainer
from scapy.contrib.mpls import MPLS
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, LLC, SNAP, Dot3, Ether
from scapy.layers.vxlan import VXLAN

from dnstrail.capture_options import CaptureOptions
from dnstrail_probe.packets.assembly import Assembly

RAW = 101
OUTER = IP(src="198.51.100.1", dst="198.51.100.2")
INNER = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=4000, dport=53) / b"a DNS message"
MAC = "02:00:00:00:00:01"
ETHERNET = Ether(src=MAC, dst="02:00:00:00:00:02")  # without addresses scapy asks the network for them
FRAME = bytes(ETHERNET / INNER)
TO_VXLAN, TO_GENEVE = UDP(sport=50000, dport=4789), UDP(sport=50000, dport=6081)
TO_GTP = UDP(sport=2152, dport=2152)
OF_LINUX = UDP(sport=50000, dport=8472)
GENEVE = b"\x00\x00\x65\x58\x00\x00\x01\x00"


def vxlans(count: int):
    packet = INNER
    for _ in range(count):
        packet = OUTER / TO_VXLAN / VXLAN(vni=7, flags=8) / ETHERNET / packet
    return packet


CASES = {
    "VXLAN": (vxlans(1), True),
    "VXLAN at the port of Linux": (OUTER / OF_LINUX / VXLAN(vni=7, flags=8) / FRAME, True),
    "GENEVE with Ethernet": (OUTER / TO_GENEVE / (GENEVE + FRAME), True),
    "GENEVE with options": (OUTER / TO_GENEVE / (b"\x02" + GENEVE[1:] + bytes(8) + FRAME), True),
    "GENEVE with IP": (OUTER / TO_GENEVE / (GENEVE[:2] + b"\x08\x00" + GENEVE[4:] + bytes(INNER)), True),
    "VXLAN in VXLAN": (vxlans(2), True),
    "VXLAN far too deep": (vxlans(5), False),
    "VXLAN without a network": (OUTER / TO_VXLAN / (bytes(8) + FRAME), False),
    "GENEVE of another version": (OUTER / TO_GENEVE / (b"\x40" + GENEVE[1:] + FRAME), False),
    "GENEVE with something else": (OUTER / TO_GENEVE / (GENEVE[:2] + b"\x12\x34" + GENEVE[4:] + FRAME), False),
    "GTP": (OUTER / TO_GTP / GTP_U_Header(teid=7) / INNER, True),
    "GTP with a number": (OUTER / TO_GTP / GTP_U_Header(teid=7, S=1, seq=9) / INNER, True),
    "GTP with an extension": (OUTER / TO_GTP / GTP_U_Header(teid=7, E=1) / GTPPDUSessionContainer(QFI=1) / INNER, True),
    "GTP with an extension of no length": (OUTER / TO_GTP / (b"\x34\xff" + bytes(9) + b"\x85\0" + FRAME), False),
    "GTP with an extension that is cut": (OUTER / TO_GTP / (b"\x34\xff" + bytes(9) + b"\x85"), False),
    "an echo of GTP": (OUTER / TO_GTP / GTP_U_Header(gtp_type=1) / GTPEchoRequest(), False),
    "a cut header": (OUTER / TO_VXLAN / b"\x08\0\0", False),
}


@pytest.mark.parametrize("case", CASES)
def test_tunnels_are_opened(case):
    """DNS inside a tunnel is found with the inner addresses; other datagrams are counted as another port."""
    packet, found = CASES[case]
    counters: Counter[str] = Counter()
    events = Assembly(CaptureOptions(), counters).frame(0, RAW, bytes(packet))
    assert [(event.payload, event.flow.source_text) for _, event in events] == [(b"a DNS message", "192.0.2.1")] * found
    assert counters == ({} if found else {"other_port": 1})


INNER6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=4000, dport=53) / b"a DNS message"
IP_CASES = {
    "IP in IP": (OUTER / INNER, True),
    "6in4": (OUTER / INNER6, True),
    "GRE": (OUTER / GRE() / INNER, True),
    "GRE with a key": (OUTER / GRE(key_present=1, key=7) / INNER6, True),
    "GRE with checksum, key and sequence": (
        OUTER / GRE(chksum_present=1, key_present=1, seqnum_present=1, key=7, sequence_number=1) / INNER,
        True,
    ),
    "GRE with Ethernet": (OUTER / GRE(proto=0x6558) / FRAME, True),
    "ERSPAN": (OUTER / GRE(proto=0x88BE) / ERSPAN_I() / FRAME, True),
    "ERSPAN, version 2": (OUTER / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II() / FRAME, True),
    "ERSPAN, version 3": (OUTER / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III() / FRAME, True),
    "ERSPAN, version 3, of a platform": (
        OUTER / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III(o=1) / ERSPAN_PlatformSpecific() / FRAME,
        True,
    ),
    "four levels": (OUTER / OUTER / OUTER / GRE() / OUTER / INNER, True),
    "five levels": (OUTER / OUTER / OUTER / OUTER / GRE() / OUTER / INNER, False),
    "GRE with a source route": (OUTER / GRE(routing_present=1) / INNER, False),
    "GRE of PPTP": (OUTER / GRE(version=1, proto=0x880B) / b"\0\0\0\0", False),
    "GRE, cut": (OUTER / bytes(GRE())[:3], False),
}


@pytest.mark.parametrize("case", IP_CASES)
def test_tunnels_within_ip_are_opened(case):
    """DNS inside IP in IP or GRE, as scapy builds them, is found; other packets are counted as another protocol."""
    packet, found = IP_CASES[case]
    counters: Counter[str] = Counter()
    events = Assembly(CaptureOptions(), counters).frame(0, RAW, bytes(packet))
    assert [event.payload for _, event in events] == [b"a DNS message"] * found
    assert counters == ({} if found else {"other_protocol": 1})


@pytest.mark.parametrize(
    "frame",
    [ETHERNET / MPLS(label=1, s=0) / MPLS(label=2, s=1) / INNER, Dot3(dst=MAC, src=MAC) / LLC() / SNAP() / INNER],
    ids=["MPLS", "LLC with SNAP"],
)
def test_headers_below_ip_are_skipped(frame):
    """DNS below labels of MPLS, or in an IEEE 802.3 frame, as scapy builds them, is found."""
    ((_, event),) = Assembly(CaptureOptions(), Counter()).frame(0, 1, bytes(frame))
    assert event.payload == b"a DNS message"


ACCESS_POINT = Dot11(type=2, FCfield=2, addr1=MAC, addr2=MAC, addr3=MAC)
BRIDGE = Dot11(type=2, FCfield=3, addr1=MAC, addr2=MAC, addr3=MAC, addr4=MAC)
BEST_EFFORT = Dot11(type=2, subtype=8, FCfield=1, addr1=MAC, addr2=MAC, addr3=MAC) / Dot11QoS()
PROTECTED = Dot11(type=2, FCfield=0x42, addr1=MAC, addr2=MAC, addr3=MAC)
NETWORK = bytes(LLC() / SNAP() / INNER)
WIFI = {
    "from an access point": (105, bytes(ACCESS_POINT) + NETWORK, True),
    "between access points": (105, bytes(BRIDGE) + NETWORK, True),
    "with a quality of service, and radiotap": (127, bytes(RadioTap() / BEST_EFFORT) + NETWORK, True),
    "protected": (127, bytes(RadioTap()) + bytes(PROTECTED) + NETWORK, False),
    "a beacon": (105, bytes(Dot11(type=0, subtype=8)) + NETWORK, False),
    "without data": (105, bytes(Dot11(type=2, subtype=4)) + NETWORK, False),
}


@pytest.mark.parametrize("case", WIFI)
def test_frames_of_wifi_that_are_not_encrypted_are_read(case):
    """DNS in a data frame of IEEE 802.11, as scapy builds it, is found; other frames are counted as no IP."""
    linktype, frame, found = WIFI[case]
    counters: Counter[str] = Counter()
    events = Assembly(CaptureOptions(), counters).frame(0, linktype, frame)
    assert [event.payload for _, event in events] == [b"a DNS message"] * found
    assert counters == ({} if found else {"not_ip": 1})


def test_packets_of_a_firewall_rule_are_read():
    """DNS among the attributes of NFLOG is found behind others, whatever length these state."""
    attributes = b"\x06\0\x0a\0ab\0\0", b"\0\0\x01\0", bytes([4 + len(INNER), 0, 9, 0])
    ((_, event),) = Assembly(CaptureOptions(), Counter()).frame(
        0, 239, b"\x02\0\0\x05" + b"".join(attributes) + bytes(INNER)
    )
    assert event.payload == b"a DNS message"


def test_a_response_to_a_tunnel_port_is_dns():
    """A DNS response to a client whose port is a tunnel port is DNS."""
    packet = OUTER / UDP(sport=53, dport=4789) / (b"\x08" + bytes(40))
    ((_, event),) = Assembly(CaptureOptions(), Counter()).frame(0, RAW, bytes(packet))
    assert event.payload == b"\x08" + bytes(40)
