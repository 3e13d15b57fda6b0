"""Findings as a signature worker sends them."""

from __future__ import annotations

import ipaddress
from typing import Any

import dns.message
import dns.rrset
import msgpack

from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import DNS_TRANSACTION, NET_PACKET_DNS, NET_TCP_CONNECT, Event
from dnstrail.protocol.batches import Mark
from dnstrail.signature import Finding as Report
from dnstrail.signature import SignatureMetadata
from dnstrail.tracee.event_shape import finding_map
from dnstrail_findings.finding import ReceivedFinding, read_finding

STAMP = 1_793_534_405_012_345_678  # 2026-11-01T12:00:05Z
METADATA = SignatureMetadata(
    id="DT-9",
    version="1.2",
    name="Relay resolved",
    event_name="RELAY_RESOLVED",
    description="A relay was resolved.",
    properties={
        "Severity": 3,
        "Category": "command-and-control",
        "Technique": "Application Layer Protocol: DNS",
        "external_id": "T1071.004",
    },
)
CURL = Process(
    pid=4711,
    name="curl",
    path="/usr/bin/curl",
    parent_pid=4700,
    user_id=1000,
    container_id="c0ffee",
    container_name="shop",
    container_image="shop:1",
    unit="shop.service",
    slice="shop.slice",
    container_labels=(("app.kubernetes.io/name", "shop"),),
)


def dns_answer(name: str = "shop.example", *, address: str = "198.51.100.66") -> bytes:
    """Return a response with an alias and an address."""
    message = dns.message.make_response(dns.message.make_query(name, "A", id=7))
    message.answer.append(dns.rrset.from_text(f"{name.rstrip('.')}.", 60, "IN", "CNAME", "relay.example."))
    message.answer.append(dns.rrset.from_text("relay.example.", 60, "IN", "A", address))
    return message.to_wire()


def cause_of(
    payload: bytes, process: Process = CURL, host: str = "web-1", mark: Mark = ("s", 5), at: int = STAMP
) -> Event:
    """Return the event of a DNS message."""
    ends = [ipaddress.ip_address(text).packed for text in ("192.0.2.53", "192.0.2.100")]
    flow = Flow(ends[0], 53, ends[1], 40008)
    captured = Captured(at, payload, flow, process)
    return Event(NET_PACKET_DNS, captured, mark, host, coverage=0.5, place=(NET_PACKET_DNS, 1, 2))


def transaction(name: str = "shop.example", **others: Any) -> Event:
    """Return the transaction of a question that has an alias and an address, with other arguments where stated."""
    ends = [ipaddress.ip_address(text).packed for text in ("192.0.2.100", "192.0.2.53")]
    relations = [(name, "CNAME", "relay.example", 60), ("relay.example", "A", "198.51.100.66", 60)]
    args = {"id": "s/net_packet_dns/1/2/end", "name": name, "type": "A", "rcode": 0, "relations": relations} | others
    args = {key: value for key, value in args.items() if value is not None}
    captured = Captured(STAMP, b"", Flow(ends[0], 40008, ends[1], 53), CURL, args)
    return Event(DNS_TRANSACTION, captured, ("c", 5), "web-1", coverage=0.5)


def connection(process: Process = CURL, name: str = NET_TCP_CONNECT) -> Event:
    """Return an event of a connection to an address with two names."""
    args = {"dst_dns": ["shop.example", "other.example"], "community_id": "1:abc="}
    flow = Flow(b"", 0, ipaddress.ip_address("198.51.100.66").packed, 443, "tcp")
    captured = Captured(STAMP, b"", flow, process, args)
    return Event(name, captured, ("s", 5), "web-1", args={"dst": "198.51.100.66", "dst_port": 443})


def body_of(cause: Event | None = None, id_: str = "f1", metadata: SignatureMetadata = METADATA, **data: Any) -> bytes:
    """Return a finding as it travels over the bus."""
    report = Report(data or {"relay": "relay.example"}, cause or cause_of(dns_answer()), metadata, id_)
    packed: bytes = msgpack.packb(finding_map(report, {}, since=STAMP - 10**9))
    return packed


def finding_of(cause: Event | None = None, id_: str = "f1", **data: Any) -> ReceivedFinding:
    """Return a finding as the worker of findings reads it."""
    found = read_finding(body_of(cause, id_, **data))
    assert found is not None
    return found
