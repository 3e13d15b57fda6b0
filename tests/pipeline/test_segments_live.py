"""The bytes that a real client reads are those of the events, however its server sends them; else there is no event."""

from __future__ import annotations

import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import count, pairwise
from typing import NamedTuple

import dns.message
import dns.rrset
import pytest
from scapy.layers.inet import IPOption_LSRR, IPOption_NOP

from dnstrail.events import NET_PACKET_DNS
from live.crafted_server import SERVER, CraftedServer, Packet, crafted_server
from live.ebpf_source import Watching, watching
from live.namespaces import live_or_skip

QUERY = dns.message.make_query("shop.test", "A")
CONVERSATIONS = 60
BRIEF = 1.0  # seconds for which a client waits to whom nothing arrives
MARKERS = (f"marker{number}.of{os.getpid()}.test" for number in count())


def framed(wire: bytes) -> bytes:
    """Return a message with its length in front."""
    return len(wire).to_bytes(2) + wire


def answer(address: str, ttl: int) -> bytes:
    """Return an answer to the query."""
    response = dns.message.make_response(QUERY)
    response.answer.append(dns.rrset.from_text("shop.test.", ttl, "IN", "A", address))
    return response.to_wire()


TRUE, DECOY = answer("192.0.2.1", 0x01010101), answer("198.51.100.66", 0x02020202)
STREAM, FALSE = framed(TRUE), framed(DECOY)
L = len(STREAM)
WITH_URGENT = STREAM[:-1] + b"*" + STREAM[-1:]  # the client does not read the star
NOPS, ROUTE = [IPOption_NOP()] * 40, [IPOption_LSRR(routers=["10.98.0.9"], pointer=8)]


class Wire(NamedTuple):
    """The parts of the test."""

    server: CraftedServer
    watched: Watching

    def seen(self) -> list[bytes]:
        """Return the messages that arrived since the last look: those before a marker, a question of this process."""
        self.watched.events.clear()
        marker = next(MARKERS)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(dns.message.make_query(marker, "A").to_wire(), ("127.0.0.1", 53))
        self.watched.until(lambda: self.watched.about(marker), "the marker")
        packets = [event for event in self.watched.named(NET_PACKET_DNS) if event.flow.source_text == SERVER]
        return [event.payload for event in packets]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Yield a client, and a source that watches it."""
    live_or_skip()
    with watching() as watched, crafted_server() as server:
        yield Wire(server, watched)


TAKEN: dict[str, list[Packet]] = {
    "one byte a segment": [(place, STREAM[place : place + 1], {}) for place in range(L)],
    "a cut within the length": [(0, STREAM[:1], {}), (1, STREAM[1:], {})],
    "out of order": [(20, STREAM[20:], {}), (5, STREAM[5:20], {}), (0, STREAM[:5], {})],
    "a retransmission with other bytes": [(0, STREAM[:-1], {}), (0, FALSE[:-1], {}), (L - 1, STREAM[-1:], {})],
    "other bytes behind a gap, and then all": [(9, FALSE[9:], {}), (0, STREAM, {})],
    "other bytes behind a gap, and then all from before": [
        (0, STREAM[:5], {}),
        (9, FALSE[9:], {}),
        (3, STREAM[3:], {}),
    ],
    "40 bytes of options of IP": [(0, STREAM, {"options": NOPS})],
    "no ACK before": [(0, FALSE, {"flags": "P"}), (0, STREAM, {})],
    "an acknowledgment of what was not sent before": [(0, FALSE, {"shift": 1000}), (0, STREAM, {})],
    "data behind the end": [(0, STREAM, {}), (L, b"", {"flags": "FA"}), (L, FALSE, {}), (L + 1, FALSE, {})],
}


@pytest.mark.parametrize("packets", TAKEN.values(), ids=TAKEN.keys())
def test_the_event_has_what_the_client_read(wire, packets):
    """An answer over TCP is the event that the client read, and its only one."""
    assert wire.server.over_tcp(framed(QUERY.to_wire()), packets) == STREAM
    assert wire.seen() == [TRUE]


def test_data_of_a_syn_that_the_kernel_drops_are_no_event(wire):
    """Linux drops the data of a SYN with ACK; those that come after it count."""
    assert wire.server.over_tcp(framed(QUERY.to_wire()), [(0, STREAM, {})], FALSE) == STREAM
    assert wire.seen() == [TRUE]


UNREADABLE: dict[str, tuple[list[Packet], str]] = {
    "urgent data": ([(0, WITH_URGENT, {"flags": "PAU", "urgptr": L})], "tcp_not_read"),
    "urgent data that are announced": (
        [(0, WITH_URGENT[:9], {"flags": "PAU", "urgptr": L}), (9, WITH_URGENT[9:], {})],
        "tcp_not_read",
    ),
    "an acknowledgment older than the connection": (
        [(0, STREAM, {"shift": -1000}), (0, STREAM, {})],
        "tcp_not_read",
    ),
    "segments behind a gap that overlap and differ": (
        [(30, FALSE[30:40], {}), (35, STREAM[35:], {}), (5, STREAM[5:32], {}), (0, STREAM[:5], {})],
        "tcp_conflict",
    ),
}


@pytest.mark.parametrize(("packets", "counter"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_doubtful_bytes_are_no_event(wire, packets, counter):
    """If the kernel could have given the client other bytes than were captured, there is no event; this is counted."""
    before = wire.watched.source.counters[counter]
    assert wire.server.over_tcp(framed(QUERY.to_wire()), packets)
    assert wire.seen() == []
    assert wire.watched.source.counters[counter] > before


def test_segments_at_random_yield_the_event_that_was_read(wire):
    """Segments that overlap and differ yield the event that the client read, or none, which is counted."""
    random_of_test = random.Random(1)
    outcomes: Counter[bool] = Counter()
    for _ in range(CONVERSATIONS):
        before = wire.watched.source.counters["tcp_conflict"]
        read = wire.server.over_tcp(framed(QUERY.to_wire()), at_random(random_of_test))
        seen = wire.seen()
        assert seen == [read[2:]] or (not seen and wire.watched.source.counters["tcp_conflict"] > before)
        outcomes[bool(seen)] += 1
    assert outcomes[True]
    assert outcomes[False]


def at_random(chosen: random.Random) -> list[Packet]:
    """Return some segments with bytes of either answer, and then the rest of the stream in any order."""
    ends = [sorted((chosen.randrange(L), chosen.randrange(1, L + 1))) for _ in range(chosen.randrange(7))]
    cuts = sorted({0, L, *(chosen.randrange(L) for _ in range(chosen.randrange(4)))})
    rest = list(pairwise(cuts))
    chosen.shuffle(rest)
    return [(start, chosen.choice((STREAM, FALSE))[start:end], {}) for start, end in ends + rest if start < end]


def test_datagrams_with_options_of_ip_are_events(wire):
    """Options of IP do not hide an answer over UDP."""
    assert wire.server.over_udp(QUERY.to_wire(), [(0, TRUE, {"options": NOPS})]) == TRUE
    assert wire.seen() == [TRUE]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_source_route_that_the_kernel_refuses_is_no_event(wire, transport):
    """An answer with a loose source route (LSRR) reaches neither the client nor the image."""
    if transport == "udp":
        assert wire.server.over_udp(QUERY.to_wire(), [(0, TRUE, {"options": ROUTE})], patience=BRIEF) == b""
    else:
        packets: list[Packet] = [(0, STREAM, {"options": ROUTE})]
        assert wire.server.over_tcp(framed(QUERY.to_wire()), packets, patience=BRIEF) == b""
    assert wire.seen() == []


def test_a_bad_checksum_is_not_seen(wire):
    """The stated limit: an answer whose bad checksum the kernel finds only when the client reads is an event."""
    long = DECOY + bytes(100)
    assert wire.server.over_udp(QUERY.to_wire(), [(0, long, {"chksum": 1}), (0, TRUE, {})]) == TRUE
    assert wire.seen() == [long, TRUE]
