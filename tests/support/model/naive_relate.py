"""Which relations one message tells, as the naive model understands DESIGN 5.3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import dns.name
from dns.name import Name
from dns.rdtypes.svcbbase import ParamKey

from model.naive_wire import TTL_CAP, Record, address_text, name_text, read_message, relatable, reverse_address

NAME_FIELD = {"CNAME": "target", "MX": "exchange", "SRV": "target", "SVCB": "target", "HTTPS": "target"}

Place = tuple[int, int]  # index of the record, position among the hints of one record
Edge = tuple[Name, str, Name | str | None]  # owner, kind, target (a Name, or an address as text)


class Told(NamedTuple):
    """One relation as one message tells it."""

    owner: str
    kind: str
    target: str
    ttl: int
    place: Place


def told_by(payload: bytes) -> tuple[str, list[Told]]:
    """The question of a message as a root (an address, if it is reverse) and what the message tells."""
    message = read_message(payload)
    if message is None:
        return "", []
    question, records = message
    address = reverse_address(question)
    if address is not None:
        return address, list(reverse_told(address, question, records))
    return name_text(question), list(forward_told(question, records)) if relatable(question) else []


def record_edges(record: Record) -> list[Edge]:
    """The forward relations that one record makes, in the order of the record."""
    edges: list[Edge] = []
    rdata = record.rdata
    if record.kind in ("A", "AAAA"):
        edges.append((record.owner, record.kind, address_text(rdata.address)))
    if record.kind in NAME_FIELD:
        edges.append((record.owner, record.kind, getattr(rdata, NAME_FIELD[record.kind])))
    if record.kind in ("SVCB", "HTTPS") and rdata.priority != 0:
        source = record.owner if rdata.target == dns.name.root else rdata.target
        for parameter in (ParamKey.IPV4HINT, ParamKey.IPV6HINT):
            if parameter in rdata.params:
                hints = rdata.params[parameter].addresses
                edges += [(source, record.kind, address_text(hint)) for hint in hints]
    return [edge for edge in edges if all(relatable(end) for end in edge if isinstance(end, Name))]


def forward_told(question: Name, records: list[Record]) -> Iterator[Told]:
    """What the answer to a question about a name tells, from the question on, in any order of records."""
    edges_of = [(record, record_edges(record)) for record in records]
    reached: set[Name | str | None] = {question}
    before = 0
    while len(reached) != before:
        before = len(reached)
        for record, edges in edges_of:
            if record.owner in reached:
                reached.update(target for _, _, target in edges)
    for record, edges in edges_of:
        for position, (owner, kind, target) in enumerate(edges if record.owner in reached else []):
            end = name_text(target) if isinstance(target, Name) else str(target)
            yield Told(name_text(owner), kind, end, record.ttl, (record.row, position))


def reverse_told(address: str, question: Name, records: list[Record]) -> Iterator[Told]:
    """The PTR relations of the address that a reverse question names, through aliases too (RFC 2317)."""
    ttl_to = {question: TTL_CAP}  # owner -> the best of the shortest TTLs of the chains that lead to it
    changed = True
    while changed:
        changed = False
        for record in records:
            if record.kind == "CNAME" and record.owner in ttl_to:
                ttl = min(ttl_to[record.owner], record.ttl)
                if ttl > ttl_to.get(record.rdata.target, -1):
                    ttl_to[record.rdata.target] = ttl
                    changed = True
    for record in records:
        if record.kind == "PTR" and record.owner in ttl_to and relatable(record.rdata.target):
            ttl = min(ttl_to[record.owner], record.ttl)
            yield Told(address, "PTR", name_text(record.rdata.target), ttl, (record.row, 0))
