"""Events for tests of detections: queries, answers and connections of one program."""

from __future__ import annotations

from collections.abc import Iterable

import dns.message
import dns.rcode
import dns.rrset
from msgspec.structs import replace

from dnstrail.captured import Process
from dnstrail.events import NET_TCP_CONNECT, Event
from dnstrail.signature import Signature
from dnstrail.testing import SignatureRun, dns_query, dns_response, event

CURL = Process(7, "curl", "/usr/bin/curl", start_time=1)
OTHER = Process(8, "wget", "/usr/bin/wget", start_time=1)


def missing(question: str, *records: str, zone: str = "", process: Process = CURL, at: float = 0.0) -> Event:
    """Return the event of a response NXDOMAIN, with the SOA record of the zone that denies the name if it is given."""
    message = dns.message.from_wire(dns_response(question, *records).captured.payload)
    message.set_rcode(dns.rcode.NXDOMAIN)
    if zone:
        proof = dns.rrset.from_text("proof.example.", 60, "IN", "NSEC", "a.example. A")
        message.authority = [proof, dns.rrset.from_text(zone, 60, "IN", "SOA", "ns. admin. 1 2 3 4 5")]
    return event("net_packet_dns", message.to_wire(), process=process, at=at)


def answered(name: str, *addresses: str, ttl: int = 30, process: Process = CURL, at: float = 0.0) -> Event:
    """Return the event of an answer with IPv4 addresses."""
    records = [f"{name} {ttl} A {address}" for address in addresses]
    return dns_response(name, *records, process=process, at=at)


def connected(address: str, *, port: int = 443, process: Process = CURL, at: float = 0.0, **args: object) -> Event:
    """Return the event of a connection."""
    return event(NET_TCP_CONNECT, process=process, at=at, args={"dst": address, "dst_port": port, **args})


def queries(names: Iterable[str], *, each: float = 1.0, process: Process = CURL) -> list[Event]:
    """Return the events of queries, one every `each` seconds. A name can have a type behind it."""
    return [dns_query(name, process=process, at=place * each) for place, name in enumerate(names)]


def findings(cls: type[Signature], events: Iterable[Event], **settings: object) -> list[dict[str, object]]:
    """Return the data of the findings of a signature, with other settings than its own where they are given."""
    run = started(cls, **settings)
    for one in events:
        run.event(one)
    return [finding.data for finding in run.findings]


def started(cls: type[Signature], **settings: object) -> SignatureRun:
    """Return a run of a signature with some other settings."""
    return SignatureRun(cls, settings=replace(cls.settings, **settings))
