from __future__ import annotations

import socket

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop

from dnstrail.capture_options import MAX_PORTS
from dnstrail_probe.sources.af_packet import attach_filter, packet_filter

IP4, IP6 = IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="::1", dst="::2")
CASES = {
    "UDP to 53": (IP4 / UDP(sport=4000, dport=53), True),
    "UDP from 5353": (IP4 / UDP(sport=5353, dport=4000), True),
    "UDP elsewhere": (IP4 / UDP(sport=4000, dport=54), False),
    "TCP to 53": (IP4 / TCP(sport=4000, dport=53), True),
    "TCP from 53": (IP4 / TCP(sport=53, dport=4000), True),
    "TCP elsewhere": (IP4 / TCP(sport=4000, dport=443), False),
    "IPv4 options": (IP(src="192.0.2.1", dst="192.0.2.2", options=b"\x01" * 8) / TCP(dport=53), True),
    "IPv4 options, elsewhere": (IP(src="192.0.2.1", dst="192.0.2.2", options=b"\x01" * 8) / TCP(dport=443), False),
    "a first fragment": (IP(src="192.0.2.1", dst="192.0.2.2", flags="MF") / UDP(dport=443) / bytes(8), True),
    "a later fragment": (IP(src="192.0.2.1", dst="192.0.2.2", frag=9, proto=17) / bytes(8), True),
    "a fragment of ICMP": (IP(src="192.0.2.1", dst="192.0.2.2", frag=9, proto=1) / bytes(8), False),
    "ICMP": (IP4 / ICMP(), False),
    "IPv6, UDP to 53": (IP6 / UDP(sport=4000, dport=53), True),
    "IPv6, UDP elsewhere": (IP6 / UDP(sport=4000, dport=443), False),
    "IPv6, TCP from 53": (IP6 / TCP(sport=53, dport=4000), True),
    "IPv6, TCP elsewhere": (IP6 / TCP(sport=4000, dport=443), False),
    "IPv6, a fragment": (IP6 / IPv6ExtHdrFragment(nh=17, offset=9), True),
    "IPv6, extension headers": (IP6 / IPv6ExtHdrHopByHop() / TCP(dport=443), True),
    "IPv6, ICMPv6": (IPv6(src="::1", dst="::2", nh=58) / bytes(8), False),
    "another version": (b"\x55" + bytes(40), False),
    "a cut packet": (bytes(IP4)[:9], False),
}


def passes(packet, program: bytes) -> bool:
    """Return whether the kernel, running a program, passes a packet."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        attach_filter(receiver, program)
        receiver.settimeout(0)
        last = bytes(IP4 / UDP(dport=53) / b"last")
        sender.send(bytes(packet))
        sender.send(last)
        first = receiver.recv(4096)
        assert first in (bytes(packet), last)
        return first != last


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_passes_dns(case):
    """Packets on DNS ports pass, and so do fragments and IPv6 extensions, which may hide them; others are dropped."""
    packet, expected = CASES[case]
    assert passes(packet, packet_filter(frozenset({53, 5353}))) == expected


def test_the_largest_number_of_ports():
    """The kernel accepts the filter for the largest number of ports, and the filter passes the last port."""
    ports = frozenset({53, *range(1000, 1000 + MAX_PORTS - 1)})
    program = packet_filter(ports)
    assert passes(IP4 / TCP(sport=4000, dport=max(ports), flags="A"), program)
    assert not passes(IP4 / TCP(sport=4000, dport=max(ports) + 1, flags="A"), program)
