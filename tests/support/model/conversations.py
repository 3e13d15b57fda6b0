"""Random conversations: the queries, responses and copies of a few clients and servers, and answers that recur."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from msgspec.structs import replace

from builders.dns_builders import CNAME, A, asked, by_hand, record, wire
from builders.traffic import NAMES, PACKED
from dnstrail.captured import FORWARDER, Flow, Process
from model.instants import SECOND, ns
from model.naive_wire import read_heading

SERVER, OTHER = ip_address("10.0.0.53").packed, ip_address("10.9.9.9").packed
QUERY_FLAGS = 0x0100
COPIED = ns(0.031)  # between two captures of one packet
DELAYS = (*(ns(0.02),) * 8, ns(0.2), ns(-0.5), 29 * SECOND, 31 * SECOND)  # of a response
TTLS = (0, 1, 5, 5, 30, 300)


@dataclass(frozen=True)
class Endpoint:
    """A client or server as a source captures it: the flow of its queries, its process and its host."""

    query: Flow
    process: Process | None = None
    host: str = ""

    @property
    def response(self) -> Flow:
        """Return the flow of a response to the query."""
        flow = self.query
        turned = Flow(flow.destination, 53, flow.source, flow.source_port, flow.transport, flow.socket, flow.namespace)
        return replace(turned, egress=bool(flow.socket) and not flow.egress, role=flow.role)


def _endpoint(last: int, cgroup: int = 0, host: str = "", owner: int = 0, **more: object) -> Endpoint:
    flow = Flow(ip_address(f"10.0.0.{last}").packed, 4000 + last, SERVER, 53)
    return Endpoint(replace(flow, **more), Process(pid=9, cgroup_id=cgroup, owner=owner) if cgroup else None, host)


CLIENT = _endpoint(2, 5, socket=7, namespace=1, egress=True)
AT_ITS_SERVER = _endpoint(2, 8, socket=9, namespace=2)
ENDPOINTS = (
    CLIENT,
    CLIENT,
    AT_ITS_SERVER,
    _endpoint(3, 6, "h", socket=8, namespace=1, egress=True),
    _endpoint(4, socket=10, namespace=3, egress=True, meant=ip_address("10.96.0.10").packed, meant_port=53),
    _endpoint(5, 6, owner=5, socket=11, namespace=1, egress=True, role=FORWARDER),
    _endpoint(6),
)
LOSSES = (("", 0, 0), ("", 5, 0), ("h", 0, 0), ("h", 6, 0), ("", 99, 0), ("", 6, 5), ("", 0, 5))  # host, cgroup, owner


@dataclass(frozen=True)
class Said:
    """One packet: its delay after the one before, its bytes, and where it was captured."""

    after: int
    payload: bytes
    flow: Flow
    process: Process | None
    host: str


def conversation(random: Random, payload: bytes) -> list[Said]:
    """Return a response in its surroundings: perhaps with its query, retransmissions, copies and forgeries."""
    end, number = random.choice(ENDPOINTS), random.choice((1, 2))
    payload = struct.pack("!H", number) + payload[2:]
    said = list(_queries(random, end, payload)) if random.random() < 0.75 else []
    response = end.response
    if random.random() < 0.1:
        response = replace(response, source=OTHER)
    elif end.query.meant and random.random() < 0.5:
        response = replace(response, source=end.query.meant)
    delay = random.choice(
        (ns(0.02), ns(0.2), ns(-0.5), 29 * SECOND, 31 * SECOND) if random.random() < 0.3 else (SECOND // 50,)
    )
    said.append(Said(delay, payload, response, end.process, end.host))
    if random.random() < 0.3:
        copied = random.choice((end, AT_ITS_SERVER, CLIENT))
        said.append(Said(COPIED, payload, copied.response, copied.process, copied.host))
    if random.random() < 0.3:
        second = by_hand(_question(payload), record(b"\xc0\x0c", A, random.choice(PACKED[:2])))
        said.append(Said(SECOND // 5, payload[:2] + second[2:], response, end.process, end.host))
    return said


def _queries(random: Random, end: Endpoint, payload: bytes) -> Iterator[Said]:
    query = payload[:2] + by_hand(_question(payload), flags=QUERY_FLAGS)[2:]
    yield Said(0, query, end.query, end.process, end.host)
    if random.random() < 0.2:
        yield Said(COPIED, query, end.query, end.process, end.host)
    if random.random() < 0.2:
        yield Said(SECOND, query, end.query, end.process, end.host)
    if random.random() < 0.2:
        other = random.choice((AT_ITS_SERVER, CLIENT))
        yield Said(0, query, other.query, other.process, other.host)


def _question(payload: bytes) -> bytes:
    """Return the question of a message, uncompressed; another where it cannot be read."""
    heading = read_heading(payload)
    if heading is None:
        return asked(wire(NAMES[0]))
    name, kind, klass = heading.question
    return asked(name.to_wire() or b"", kind, klass)


@dataclass(frozen=True)
class Recurring:
    """An answer that comes again and again, with other TTLs and in another order."""

    name: str
    records: tuple[tuple[bytes, int, bytes], ...]

    def again(self, random: Random) -> bytes:
        """Return the answer as it comes next."""
        records = random.sample(self.records, len(self.records))
        return by_hand(asked(wire(self.name)), *(record(*one, ttl=random.choice(TTLS)) for one in records))


def recurring(random: Random) -> Recurring:
    """Return an answer of one to four relations."""
    name, alias = random.sample(NAMES, 2)
    addresses = [one for one in PACKED if len(one) == 4]
    owner = random.choice((name, alias))
    records = [(wire(owner), A, packed) for packed in random.sample(addresses, random.randint(1, len(addresses)))]
    return Recurring(name, (*records, (wire(name), CNAME, wire(alias))) if owner != name else tuple(records))
