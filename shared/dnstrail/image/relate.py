"""The relations that a response states by its resource records (docs/lookups.md)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from heapq import heappop, heappush
from typing import Final

from dnstrail.dns import Message, Record, ServiceBinding
from dnstrail.dns.header import Header
from dnstrail.dns.names import ROOT, is_node, is_reverse, reverse_address
from dnstrail.dns.usual_answer import read_usual_answer
from dnstrail.image.answer import Answer, Edge
from dnstrail.image.bounds import SECOND
from dnstrail.image.kind import Kind

MAX_TTL: Final = 7 * 24 * 3600
_ADDRESSES: Final = frozenset({int(Kind.A), int(Kind.AAAA)})
Found = tuple[Edge, int]  # a relation and its life in ns


def relate_usual(wire: bytes, header: Header, most: int) -> Answer | None:
    """Return a usual answer, read in one pass; None for any other answer, which `relate` reads."""
    read = read_usual_answer(wire, header)
    if read is None:
        return None
    question, edges, ttls = read
    if len(edges) > most:
        return None
    return Answer(question, header.asked.type, tuple(edges), _lives(tuple(ttls)))


def relate(message: Message, counters: dict[str, int], most: int, *, own_only: bool = False) -> Answer:
    """Return the relations that the records of a response state, in their order; the first `most` count.

    If a relation is stated twice, its longer life counts. With `own_only` only the records of the question's own name
    count. Records about another name are counted as `foreign_record`. Records of a reverse question that state no name
    of its address are counted as `unusable_record`.
    """
    if is_reverse(message.name):
        address = reverse_address(message.name)
        found = _pointers(message, address, own_only=own_only) if address else []
        counters["unusable_record"] += len(message.answers) - len(found)
        return _stated(address or "", message.type, found, most, counters)
    records = _reached(message)
    if own_only:
        records = [record for record in records if record.owner == message.name]
    if len(records) < len(message.answers):
        counters["foreign_record"] += len(message.answers) - len(records)
    found = []
    for record in records:
        if record.type in _ADDRESSES and isinstance(record.target, str):  # the latter is always true: it is for mypy
            found.append(((record.owner, record.type, record.target), life(record.ttl)))
        else:
            found += _edges(record)
    return _stated(message.name, message.type, found, most, counters)


def _stated(question: str, rdtype: int, found: list[Found], most: int, counters: dict[str, int]) -> Answer:
    lives: dict[Edge, int] = {}
    for edge, ns in found:
        if ns >= lives.get(edge, 0):
            lives[edge] = ns
    if len(lives) > most:
        counters["evicted_owned"] += len(lives) - most
    return Answer(question, rdtype, tuple(lives)[:most], tuple(lives.values())[:most])


@lru_cache(maxsize=4096)
def _lives(ttls: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lives that TTLs give. Answers with the same TTLs, as most have, share one tuple."""
    return tuple(map(life, ttls))


def life(ttl: int) -> int:
    """Return the life (ns) that a TTL gives: 0 from 2^31 on (RFC 2181, section 8), and at most 7 days."""
    return min(ttl, MAX_TTL) * SECOND if ttl < 1 << 31 else 0


def _reached(message: Message) -> list[Record]:
    """Return the records whose owner is the question's name, or is reached from it through other records."""
    if not is_node(message.name):
        return []
    names = {message.name}
    for record in message.answers:
        if record.owner not in names:
            break
        if record.type not in _ADDRESSES:
            names.update(_names(record))
    else:
        return message.answers  # the usual case: servers send a chain in its order
    targets: dict[str, list[str]] = {}
    for record in message.answers:
        targets.setdefault(record.owner, []).extend(_names(record))
    names = {message.name}
    pending = [message.name]
    while pending:
        fresh = [name for name in targets.get(pending.pop(), ()) if name not in names]
        names.update(fresh)
        pending += fresh
    return [record for record in message.answers if record.owner in names]


def _names(record: Record) -> list[str]:
    """Return a list with the name to which a record leads, or an empty list."""
    if record.type in _ADDRESSES or record.type == Kind.PTR:
        return []
    target = record.target.target if isinstance(record.target, ServiceBinding) else record.target
    return [target] if is_node(target) else []


def _edges(record: Record) -> Iterator[Found]:
    """Yield the relations of any record except an address record."""
    ns = life(record.ttl)
    for name in _names(record):
        yield (record.owner, record.type, name), ns
    if isinstance(record.target, ServiceBinding) and record.target.service_mode:
        host = record.owner if record.target.target == ROOT else record.target.target
        if is_node(host):
            for hint in record.target.hints:
                yield (host, record.type, hint), ns


def _pointers(message: Message, address: str, *, own_only: bool) -> list[Found]:
    """Return the PTR relations of an address, through CNAMEs too (RFC 2317); a life is the shortest of its chain."""
    aliases: dict[str, list[Record]] = {}
    for record in () if own_only else message.answers:
        if record.type == Kind.CNAME:
            aliases.setdefault(record.owner, []).append(record)
    lives: dict[str, int] = {}
    pending = [(-life(MAX_TTL), message.name)]
    while pending:  # the chain with the longest life first
        rest, owner = heappop(pending)
        if owner in lives:
            continue
        lives[owner] = -rest
        for alias in aliases.get(owner, ()):
            heappush(pending, (-min(-rest, life(alias.ttl)), str(alias.target)))
    return [
        ((address, record.type, str(record.target)), min(lives[record.owner], life(record.ttl)))
        for record in message.answers
        if record.type == Kind.PTR and record.owner in lives and is_node(str(record.target))
    ]
