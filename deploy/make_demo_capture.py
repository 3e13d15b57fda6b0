"""Make the capture that the demo plays: `python deploy/make_demo_capture.py FILE`.

All names and addresses are reserved for documentation (RFC 2606, RFC 5737, RFC 3849).
"""

from __future__ import annotations

import struct
import sys
from ipaddress import IPv4Address
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset

CLIENT, SERVER = IPv4Address("192.0.2.100"), IPv4Address("192.0.2.53")
BEGIN = 1_793_534_400_000_000_000  # 2026-11-01T12:00:00Z, in ns
RAW_IPV4 = 228

# Seconds after the beginning, question, answers. They show a shop behind an alias, a second name on its address, a mail
# exchange, a service binding with hints, a reverse record, and an update server whose alias is a watched name.
EXCHANGES = (
    (0.0, "shop.example A", ("shop.example 300 CNAME edge.cdn.example", "edge.cdn.example 60 A 192.0.2.10")),
    (
        0.4,
        "shop.example AAAA",
        ("shop.example 300 CNAME edge.cdn.example", "edge.cdn.example 60 AAAA 2001:db8::10"),
    ),
    (1.1, "NEWS.example A", ("news.example 120 CNAME edge.cdn.example", "edge.cdn.example 60 A 192.0.2.10")),
    (2.0, "mail.example MX", ("mail.example 3600 MX 10 mx.mail.example",)),
    (2.2, "mx.mail.example A", ("mx.mail.example 600 A 192.0.2.25",)),
    (3.0, "www.example HTTPS", ("www.example 300 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.80",)),
    (3.5, "10.2.0.192.in-addr.arpa PTR", ("10.2.0.192.in-addr.arpa 3600 PTR host-10.isp.example",)),
    (4.0, "missing.example A", ()),
    (
        5.0,
        "updates.example A",
        ("updates.example 60 CNAME relay.c2.example", "relay.c2.example 60 A 198.51.100.66"),
    ),
)


def capture() -> bytes:
    """Return the capture as a nanosecond pcap file of raw IPv4 packets."""
    packets = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, RAW_IPV4)]
    for number, (offset, question, answers) in enumerate(EXCHANGES):
        name, rdtype = question.split(" ")
        query = dns.message.make_query(name, rdtype, id=0x1000 + number)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        for answer in answers:
            owner, ttl, answer_type, rdata = answer.split(" ", 3)
            response.answer.append(dns.rrset.from_text(owner + ".", int(ttl), "IN", answer_type, _absolute(rdata)))
        if not answers:
            response.set_rcode(3)
        stamp, port = BEGIN + int(offset * 1e9), 40000 + number
        packets.append(_packet(stamp, CLIENT, port, SERVER, 53, query.to_wire()))
        packets.append(_packet(stamp + 12_345_678, SERVER, 53, CLIENT, port, response.to_wire()))
    return b"".join(packets)


def _absolute(rdata: str) -> str:
    """Return an RDATA with its names made absolute."""
    return " ".join(f"{word}." if word.endswith(".example") else word for word in rdata.split(" "))


def _packet(
    stamp: int, source: IPv4Address, source_port: int, target: IPv4Address, target_port: int, payload: bytes
) -> bytes:
    udp = struct.pack("!4H", source_port, target_port, 8 + len(payload), 0) + payload  # 0: no checksum, RFC 768
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source.packed, target.packed)
    frame = head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + udp
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    return struct.pack("<IIII", seconds, nanoseconds, len(frame), len(frame)) + frame


def _checksum(head: bytes) -> int:
    total = sum(struct.unpack("!10H", head))
    return 0xFFFF & ~((total & 0xFFFF) + (total >> 16))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(capture())
