"""The relations of one message, as the naive model understands docs/inside/image.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import dns.name
from dns.name import Name
from dns.rdtypes.svcbbase import ParamKey

from model.naive_wire import (
    TTL_CAP,
    Record,
    address_text,
    name_text,
    read_answers,
    read_heading,
    relatable,
    reverse_address,
)

NAME_FIELD = {"CNAME": "target", "MX": "exchange", "SRV": "target", "SVCB": "target", "HTTPS": "target"}

Relation = tuple[str, str, str]  # owner, kind, target
Edge = tuple[Name, str, Name | str | None]  # owner, kind, target (a Name, or an address as text)


class Stated(NamedTuple):
    """One relation as one message states it."""

    relation: Relation
    ttl: int


def stated_by(payload: bytes, *, to_forwarder: bool = False) -> tuple[str, list[Stated]]:
    """Return the root of a message (an address for a reverse question) and the relations that it states, in order."""
    heading, records = read_heading(payload), read_answers(payload)
    if heading is None or not records:
        return "", []
    question = heading.name
    if to_forwarder and heading.of_an_owner:
        records = [record for record in records if record.owner == question]
    address = reverse_address(question)
    if address is not None:
        return address, list(reverse_relations(address, question, records))
    return name_text(question), list(forward_relations(question, records)) if relatable(question) else []


def longest(stated: Iterable[Stated]) -> list[Stated]:
    """Return each relation once, at its first place, with its longest TTL."""
    kept: dict[Relation, Stated] = {}
    for one in stated:
        first = kept.setdefault(one.relation, one)
        kept[one.relation] = first._replace(ttl=max(first.ttl, one.ttl))
    return list(kept.values())


def record_edges(record: Record) -> list[Edge]:
    """Return the forward relations of one record, in the order of the record."""
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


def forward_relations(question: Name, records: list[Record]) -> Iterator[Stated]:
    """Yield the relations of the answer to a question about a name, for records in any order."""
    edges_of = [(record, record_edges(record)) for record in records]
    reached: set[Name | str | None] = {question}
    before = 0
    while len(reached) != before:
        before = len(reached)
        for record, edges in edges_of:
            if record.owner in reached:
                reached.update(target for _, _, target in edges)
    for record, edges in edges_of:
        for owner, kind, target in edges if record.owner in reached else []:
            end = name_text(target) if isinstance(target, Name) else str(target)
            yield Stated((name_text(owner), kind, end), record.ttl)


def reverse_relations(address: str, question: Name, records: list[Record]) -> Iterator[Stated]:
    """Yield the PTR relations of the address in a reverse question, through aliases too (RFC 2317)."""
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
            yield Stated((address, "PTR", name_text(record.rdata.target)), ttl)
