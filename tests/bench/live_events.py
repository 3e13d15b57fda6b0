"""Events as a live probe publishes them: queries and responses with flows, sockets and processes, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import dns.flags
import dns.message
import dns.rrset

from dnstrail.captured import CLIENT, Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import Batch, Turn, encode
from dnstrail_probe.registry import open_source

BATCH = 100  # events; about those of five milliseconds at 20,000 a second
HOST = "host"
START = "0123456789abcdef"  # as `HostIdentity.new_start` makes it
CLIENT_ADDRESS, SERVER_ADDRESS = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 53])
PROCESSES = [
    Process(pid, "dig", "/usr/bin/dig", 1, 1000, thread_id=pid, cgroup_id=5000 + pid % 20, start_time=pid)
    for pid in range(100, 150)
]
_SECOND = 10**9


def of_capture(capture: str) -> list[Captured]:
    """Return the DNS messages of a capture with what eBPF adds to them."""
    source = open_source(capture)
    events: list[Captured] = []
    while (captured := source.read(1)) is not None:
        events += [_live(event) for _, event in captured if event.flow]
    source.close()
    return events


def questions(capture: str) -> list[str]:
    """Return the names in the questions of answered messages, each once."""
    payloads = [event.payload for event in of_capture(capture) if is_answered(event.payload)]
    asked = (dns.message.from_wire(payload).question[0].name for payload in payloads)
    return [*dict.fromkeys(name.to_text(omit_final_dot=True) for name in asked)]


def fresh(count: int, since: int = 1_700_000_000 * _SECOND) -> Iterator[Captured]:
    """Yield a query and its response for each of many new names; each name is an alias of one with one address."""
    for number, (query, response) in enumerate(fresh_messages(count)):
        stamp = since + number * 100_000
        flow = Flow(CLIENT_ADDRESS, 20_000 + number % 40_000, SERVER_ADDRESS, 53)
        back = Flow(SERVER_ADDRESS, 53, CLIENT_ADDRESS, flow.source_port)
        yield _live(Captured(stamp, query, flow))
        yield _live(Captured(stamp + 50_000, response, back))


def fresh_messages(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield a query and its response for each of many new names."""
    query = dns.message.make_query("aaaaaaaa.example.com", "A", id=1)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    response.answer = [
        dns.rrset.from_text("aaaaaaaa.example.com.", 300, "IN", "CNAME", "bbbbbbbb.cdn.net."),
        dns.rrset.from_text("bbbbbbbb.cdn.net.", 300, "IN", "A", "255.1.2.3"),
    ]
    asked, answered = query.to_wire(), response.to_wire()
    for number in range(count):
        name, alias = b"a%07d" % number, b"b%07d" % number
        address = (number + (10 << 24)).to_bytes(4, "big")
        filled = answered.replace(b"aaaaaaaa", name).replace(b"bbbbbbbb", alias).replace(b"\xff\1\2\3", address)
        yield asked.replace(b"aaaaaaaa", name), filled


def bodies(events: Iterable[Captured]) -> Iterator[bytes]:
    """Yield the bodies of batches of events."""
    waiting = iter(events)
    before = sequence = 0
    while batch := [*islice(waiting, BATCH)]:
        yield encode(Batch(START, sequence, sequence, batch, {NET_PACKET_DNS: before}, HOST))
        before, sequence = before + len(batch), sequence + 1


def turn_end(number: int, published: int, now: int) -> Turn:
    """Return the end of a turn that contains one of the `bodies`, when so many events are published."""
    last, count = {NET_PACKET_DNS: number}, {NET_PACKET_DNS: published}
    return Turn(START, number, last, live=True, now=now, published=count, host=HOST)


def is_answered(payload: bytes) -> bool:
    """Return whether a message is a response with answers."""
    return len(payload) >= 12 and bool(payload[2] & 0x80) and payload[6:8] != b"\0\0"


def _live(event: Captured) -> Captured:
    flow, response = event.flow, bool(event.payload[2] & 0x80)
    assert flow
    port = flow.destination_port if response else flow.source_port
    process = PROCESSES[port % len(PROCESSES)]
    meant = (b"", 0) if response else (flow.destination, flow.destination_port)
    ends = (flow.source, flow.source_port, flow.destination, flow.destination_port, flow.transport)
    return Captured(event.timestamp, event.payload, Flow(*ends, 1000 + port, 77, not response, *meant, CLIENT), process)
