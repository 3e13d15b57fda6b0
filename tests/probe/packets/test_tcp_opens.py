"""Tests of dnstrail_probe.packets.connection_args."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from dnstrail.events import NET_TCP_CONNECT
from dnstrail_probe.packets.connection_args import MAX_REMEMBERED, TcpOpens
from dnstrail_probe.packets.packet import ip_packet

RAW = 101
SECOND = 10**9


def packet(flags="S", sport=4000, dport=443, ip=None, seq=0):
    ip = ip or IP(src="192.0.2.1", dst="198.51.100.7")
    return ip_packet(RAW, bytes(ip / TCP(sport=sport, dport=dport, flags=flags, seq=seq)))


def test_the_first_syn_is_a_connection():
    """A SYN yields the event of a connection, with its ends, its time, and tracee's arguments."""
    ((topic, event),) = TcpOpens().add(5, packet())
    assert (topic, event.timestamp, event.payload, event.args) == (
        NET_TCP_CONNECT,
        5,
        b"",
        {"dst": "198.51.100.7", "dst_port": 443, "community_id": event.args["community_id"]},
    )
    assert (event.flow.source_text, event.flow.source_port, event.flow.transport) == ("192.0.2.1", 4000, "tcp")


def test_ipv6():
    """Addresses are reported in canonical text."""
    ((_, event),) = TcpOpens().add(5, packet(ip=IPv6(src="2001:db8::1", dst="2001:DB8:0::2")))
    assert event.args["dst"] == "2001:db8::2"


@pytest.mark.parametrize("flags", ["SA", "A", "R", "F", "PA"])
def test_no_other_segment_is_a_connection(flags):
    """Replies to a SYN and later segments yield no event."""
    assert TcpOpens().add(5, packet(flags)) == []


def test_a_retransmitted_syn_is_no_connection():
    """A SYN of the same ends is a retransmission within a minute of the one before, and a new connection after it."""
    connects = TcpOpens()
    assert len(connects.add(0, packet())) == 1
    assert connects.add(60 * SECOND, packet()) == []
    assert len(connects.add(60 * SECOND, packet(sport=4001))) == 1
    assert len(connects.add(121 * SECOND, packet())) == 1


def test_the_last_retransmission_is_no_connection():
    """The seven SYNs that Linux sends to a silent server, the last after 63 seconds, are one connection."""
    connects = TcpOpens()
    assert [len(connects.add(seconds * SECOND, packet())) for seconds in (0, 1, 3, 7, 15, 31, 63)] == [1] + [0] * 6


def test_a_reused_port_is_a_connection():
    """A SYN with another sequence number is no retransmission: a client opens both ports again, soon after a reset."""
    connects = TcpOpens()
    assert len(connects.add(0, packet(seq=7))) == 1
    assert len(connects.add(1 * SECOND, packet(seq=90_000))) == 1
    assert connects.add(2 * SECOND, packet(seq=90_000)) == []


def test_a_segment_cut_short_is_no_connection():
    """A segment that is cut before its flags yields no event."""
    whole = bytes(IP(src="192.0.2.1", dst="198.51.100.7", len=40) / TCP(flags="S"))
    for length in range(20, 34):
        assert TcpOpens().add(0, ip_packet(RAW, whole[:length])) == []


def test_connections_are_bounded():
    """Every connection is reported, and beyond the bound the oldest is evicted."""
    connects = TcpOpens()
    base = packet()
    for number in range(MAX_REMEMBERED + 10):
        one = type(base)(number.to_bytes(4), base.destination, base.protocol, base.payload)
        assert len(connects.add(number, one)) == 1
    assert len(connects._opened) == MAX_REMEMBERED
