from __future__ import annotations

from collections import Counter

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.packets.assembly import Assembly

RAW = 101
OUTER = IP(src="198.51.100.1", dst="198.51.100.2")
INNER = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=4000, dport=53) / b"a DNS message"
ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # without addresses scapy asks the network for them
FRAME = bytes(ETHERNET / INNER)
TO_VXLAN, TO_GENEVE = UDP(sport=50000, dport=4789), UDP(sport=50000, dport=6081)
GENEVE = b"\x00\x00\x65\x58\x00\x00\x01\x00"


def vxlans(count: int):
    packet = INNER
    for _ in range(count):
        packet = OUTER / TO_VXLAN / VXLAN(vni=7, flags=8) / ETHERNET / packet
    return packet


CASES = {
    "VXLAN": (vxlans(1), True),
    "GENEVE with Ethernet": (OUTER / TO_GENEVE / (GENEVE + FRAME), True),
    "GENEVE with options": (OUTER / TO_GENEVE / (b"\x02" + GENEVE[1:] + bytes(8) + FRAME), True),
    "GENEVE with IP": (OUTER / TO_GENEVE / (GENEVE[:2] + b"\x08\x00" + GENEVE[4:] + bytes(INNER)), True),
    "VXLAN in VXLAN": (vxlans(2), True),
    "VXLAN far too deep": (vxlans(5), False),
    "VXLAN without a network": (OUTER / TO_VXLAN / (bytes(8) + FRAME), False),
    "GENEVE of another version": (OUTER / TO_GENEVE / (b"\x40" + GENEVE[1:] + FRAME), False),
    "GENEVE with something else": (OUTER / TO_GENEVE / (GENEVE[:2] + b"\x12\x34" + GENEVE[4:] + FRAME), False),
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


def test_a_response_to_a_tunnel_port_is_dns():
    """A DNS response to a client whose port is a tunnel port is DNS."""
    packet = OUTER / UDP(sport=53, dport=4789) / (b"\x08" + bytes(40))
    ((_, event),) = Assembly(CaptureOptions(), Counter()).frame(0, RAW, bytes(packet))
    assert event.payload == b"\x08" + bytes(40)
