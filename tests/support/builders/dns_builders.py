"""Messages in a few words, for tests in which only names, targets and TTLs matter."""

from __future__ import annotations

from collections import Counter

import dns.rrset

from dnstrail.dns import decode
from dnstrail.image.relate import relate
from scenarios.ordinary import reply, rr

VALUES = {"MX": "10 {}", "SRV": "0 0 443 {}", "SVCB": "1 {}", "HTTPS": "1 {}"}


def told(question: str, *lines: str, ttl: int = 300, flags: int = 0) -> bytes:
    """A response to a question ("name" or "name TYPE") with records written as "owner TYPE target [ttl=TTL]".

    For MX, SRV, SVCB and HTTPS a lone target is enough.
    """
    name, _, kind = question.partition(" ")
    return reply(name, kind or "A", *(_record(line, ttl) for line in lines), flags=flags)


def _record(line: str, ttl: int) -> dns.rrset.RRset:
    owner, kind, *value = line.split(" ")
    if len(value) > 1 and value[-1].startswith("ttl="):
        ttl = int(value.pop().removeprefix("ttl="))
    text = " ".join(value)
    return rr(owner, kind, VALUES.get(kind, "{}").format(text) if len(value) == 1 else text, ttl)


def related(payload: bytes) -> tuple[str, list[str], Counter[str]]:
    """The root of a message, its relations as text, and what was counted."""
    counters: Counter[str] = Counter()
    root, edges = relate(decode(payload), counters)
    return root, [f"{edge.owner} {edge.kind.name} {edge.target} {edge.ttl}" for edge in edges], counters
