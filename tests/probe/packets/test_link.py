from __future__ import annotations

import struct

import pytest

from dnstrail_probe.packets.link import LINKS

IP = b"\x45" + bytes(19)
IP6 = b"\x60" + bytes(39)
ADDRESSES = bytes(12)
VLAN, QINQ, OLD_QINQ = b"\x81\x00\x00\x07", b"\x88\xa8\x00\x07", b"\x91\x00\x00\x07"
OLDEST_QINQ = b"\x92\x00\x00\x07"
PPPOE = b"\x88\x64\x11\x00\x00\x01\x00\x16"
SNAP = b"\xaa\xaa\x03\x00\x00\x00"
MPLS, LABEL, LAST_LABEL = b"\x88\x47", b"\x00\x01\x00\x40", b"\x00\x02\x01\x40"
NOT_IP, CUT = "not_ip", "header_cut"
V4, V6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"

FRAMES = {
    "Ethernet, IPv4": (1, ADDRESSES + V4 + IP, (4, 14)),
    "Ethernet, IPv6": (1, ADDRESSES + V6 + IP6, (6, 14)),
    "Ethernet, ARP": (1, ADDRESSES + ARP + bytes(28), NOT_IP),
    "Ethernet, IEEE 802.3 length": (1, ADDRESSES + b"\x00\x26" + bytes(38), NOT_IP),
    "Ethernet, SNAP": (1, ADDRESSES + b"\x00\x1c" + SNAP + V4 + IP, (4, 22)),
    "Ethernet, SNAP in a VLAN": (1, ADDRESSES + VLAN + b"\x00\x30" + SNAP + V6 + IP6, (6, 26)),
    "Ethernet, SNAP of another organization": (1, ADDRESSES + b"\x00\x1c" + SNAP[:5] + b"\x0c" + V4 + IP, NOT_IP),
    "Ethernet, SNAP in SNAP": (1, ADDRESSES + (b"\x00\x1c" + SNAP) * 300, NOT_IP),
    "Ethernet, SNAP, cut": (1, ADDRESSES + b"\x00\x1c" + SNAP + b"\x08", CUT),
    "MPLS, two labels": (1, ADDRESSES + MPLS + LABEL + LAST_LABEL + IP, (4, 22)),
    "MPLS in a VLAN, IPv6": (1, ADDRESSES + VLAN + MPLS + LAST_LABEL + IP6, (6, 22)),
    "MPLS, a pseudowire": (1, ADDRESSES + MPLS + LAST_LABEL + bytes(40), NOT_IP),
    "MPLS, nothing but labels": (1, ADDRESSES + MPLS + LABEL * 300, CUT),
    "MPLS, cut": (1, ADDRESSES + MPLS + LAST_LABEL, CUT),
    "Ethernet, cut": (1, ADDRESSES + b"\x08", CUT),
    "one VLAN tag": (1, ADDRESSES + VLAN + V4 + IP, (4, 18)),
    "three VLAN tags of three kinds": (1, ADDRESSES + QINQ + OLD_QINQ + VLAN + V6 + IP6, (6, 26)),
    "a VLAN tag of a fourth kind": (1, ADDRESSES + OLDEST_QINQ + VLAN + V4 + IP, (4, 22)),
    "nothing but VLAN tags": (1, ADDRESSES + VLAN * 300, CUT),
    "PPPoE, IPv4": (1, ADDRESSES + PPPOE + b"\x00\x21" + IP, (4, 22)),
    "PPPoE in a VLAN, IPv6": (1, ADDRESSES + VLAN + PPPOE + b"\x00\x57" + IP6, (6, 26)),
    "PPPoE, LCP": (1, ADDRESSES + PPPOE + b"\xc0\x21" + bytes(20), NOT_IP),
    "PPPoE, a protocol of one byte": (1, ADDRESSES + PPPOE + b"\x21" + IP, (4, 21)),
    "PPPoE without Ethernet": (51, PPPOE[2:] + b"\x00\x57" + IP6, (6, 8)),
    "PPP": (9, b"\x00\x21" + IP, (4, 2)),
    "PPP with address and control": (9, b"\xff\x03\x00\x57" + IP6, (6, 4)),
    "PPP, a protocol of one byte": (9, b"\x57" + IP6, (6, 1)),
    "PPP with address and control, a protocol of one byte": (9, b"\xff\x03\x21" + IP, (4, 3)),
    "PPP, another protocol of one byte": (9, b"\xff\x03\x2d" + IP, NOT_IP),
    "PPP in HDLC": (50, b"\xff\x03\x00\x21" + IP, (4, 4)),
    "PPP in HDLC, of Cisco": (50, b"\x0f\x00" + V4 + IP, (4, 4)),
    "PPP in HDLC, of Cisco, multicast": (50, b"\x8f\x00" + V6 + IP6, (6, 4)),
    "Cisco HDLC": (104, b"\x0f\x00" + V6 + IP6, (6, 4)),
    "Cisco HDLC, SLARP": (104, b"\x8f\x00\x80\x35" + bytes(14), NOT_IP),
    "Cisco HDLC, cut": (104, b"\x0f\x00\x08", CUT),
    "PPP, cut": (9, b"\xff\x03\x00", CUT),
    "PPPoE, cut": (1, ADDRESSES + PPPOE, CUT),
    "PPP, LCP": (9, b"\xff\x03\xc0\x21" + bytes(20), NOT_IP),
    "Linux cooked, IPv4": (113, bytes(14) + V4 + IP, (4, 16)),
    "Linux cooked, a VLAN tag": (113, bytes(14) + VLAN + V6 + IP6, (6, 20)),
    "Linux cooked, cut": (113, bytes(14), CUT),
    "Linux cooked 2, IPv6": (276, V6 + bytes(18) + IP6, (6, 20)),
    "Linux cooked 2, a VLAN tag": (276, VLAN[:2] + bytes(18) + VLAN[2:] + V4 + IP, (4, 24)),
    "Linux cooked 2, ARP": (276, ARP + bytes(18) + bytes(28), NOT_IP),
    "raw, IPv4": (101, IP, (4, 0)),
    "raw, IPv6": (12, IP6, (6, 0)),
    "raw, neither": (14, b"\x00" * 20, NOT_IP),
    "raw, empty": (101, b"", CUT),
    "IPv4": (228, IP, (4, 0)),
    "IPv6": (229, IP6, (6, 0)),
    "null, little-endian": (0, struct.pack("<I", 2) + IP, (4, 4)),
    "null, big-endian": (0, struct.pack(">I", 2) + IP, (4, 4)),
    "null, IPv6 of macOS": (0, struct.pack("<I", 30) + IP6, (6, 4)),
    "null, IPv6 of FreeBSD, big-endian": (0, struct.pack(">I", 28) + IP6, (6, 4)),
    "null, IPv6 of Linux": (0, struct.pack("<I", 10) + IP6, (6, 4)),
    "null, another family": (0, struct.pack("<I", 7) + IP, NOT_IP),
    "null, empty": (0, b"", CUT),
    "OpenBSD loopback, IPv6": (108, struct.pack(">I", 24) + IP6, (6, 4)),
}


@pytest.mark.parametrize("case", FRAMES)
def test_ip_is_found_behind_the_link_layer(case):
    """Each link type yields the IP version and the offset of its header, or the reason why there is none."""
    linktype, frame, expected = FRAMES[case]
    assert LINKS[linktype](frame) == expected


@pytest.mark.parametrize("linktype", LINKS)
def test_a_cut_frame_is_no_error(linktype):
    """A frame cut to any length, even to 0, raises no error."""
    frame = ADDRESSES + VLAN + PPPOE + b"\x00\x21" + IP
    for length in range(len(frame)):
        LINKS[linktype](frame[:length])
