"""Builders of DNS messages from short texts."""

from __future__ import annotations

import struct
from collections import Counter

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rrset

from dnstrail.dns import decode
from dnstrail.image import Kind
from dnstrail.image.relate import relate

T = 1_700_000_000.0  # the time of the first message of most cases (s)
SECOND = 1_000_000_000  # ns
A, CNAME, TXT, AAAA, HTTPS = 1, 5, 16, 28, 65  # record types for messages made by hand
VALUES = {"MX": "10 {}", "SRV": "0 0 443 {}", "SVCB": "1 {}", "HTTPS": "1 {}"}


def t(seconds: float = 0) -> int:
    """Return the instant (ns) so many seconds after T."""
    return round(T) * SECOND + round(seconds * SECOND)


def rr(owner: str | dns.name.Name, kind: str, value: str, ttl: int = 300) -> dns.rrset.RRset:
    """Return a record from text; names are absolute with or without a trailing dot."""
    name = dns.name.from_text(owner) if isinstance(owner, str) else owner
    rdata = dns.rdata.from_text("IN", kind, value, origin=dns.name.root, relativize=False)
    return dns.rrset.from_rdata(name, ttl, rdata)


def reply(question: str | dns.name.Name, kind: str, *records: dns.rrset.RRset, flags: int = 0) -> bytes:
    """Return a response with these answers and compressed names; `flags` may contain an rcode."""
    message = dns.message.make_query(question, kind, id=1)
    message.flags = dns.flags.QR | dns.flags.RD | dns.flags.RA | flags
    message.answer = list(records)
    return message.to_wire()


def wire(name: str) -> bytes:
    """Return an uncompressed name."""
    return dns.name.from_text(name).to_wire() or b""


def by_hand(question: bytes, *records: bytes, flags: int = 0x8180, counts: str = "") -> bytes:
    """Return a message from given bytes; `counts` overrides the numbers of questions, answers, additionals."""
    questions, answers, additional = map(int, (counts or f"1 {len(records)} 0").split())
    return struct.pack("!HHHHHH", 1, flags, questions, answers, 0, additional) + question + b"".join(records)


def asked(name: bytes, kind: int = A, klass: int = 1) -> bytes:
    """Return a question from a name in wire form."""
    return name + struct.pack("!HH", kind, klass)


def record(owner: bytes, kind: int, rdata: bytes, ttl: int = 300, klass: int = 1) -> bytes:
    """Return a record from given bytes."""
    return owner + struct.pack("!HHIH", kind, klass, ttl, len(rdata)) + rdata


def response_to(question: str, *lines: str, ttl: int = 300, flags: int = 0) -> bytes:
    """Return the response to a question ("name" or "name TYPE") with records "owner TYPE target [ttl=TTL]".

    The target alone is enough for MX, SRV, SVCB and HTTPS.
    """
    name, _, kind = question.partition(" ")
    return reply(name, kind or "A", *(_record(line, ttl) for line in lines), flags=flags)


def _record(line: str, ttl: int) -> dns.rrset.RRset:
    owner, kind, *value = line.split(" ")
    if len(value) > 1 and value[-1].startswith("ttl="):
        ttl = int(value.pop().removeprefix("ttl="))
    text = " ".join(value)
    return rr(owner, kind, VALUES.get(kind, "{}").format(text) if len(value) == 1 else text, ttl)


def relations_of(payload: bytes, *, own_only: bool = False) -> tuple[str, list[str], Counter[str]]:
    """Return the root of a message, its relations as text, and the counters."""
    counters: Counter[str] = Counter()
    stated = relate(decode(payload), counters, 4096, own_only=own_only)
    edges = zip(stated.edges, stated.lives, strict=True)
    texts = [f"{owner} {Kind(kind).name} {target} {life // SECOND}" for (owner, kind, target), life in edges]
    return stated.question, texts, counters
