"""The messages that count, and the relations that their resource records make (docs/capture.md, docs/lookups.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush

from dnstrail.dns import Message, Record, ServiceBinding
from dnstrail.dns.names import ROOT, is_node, is_reverse, reverse_address
from dnstrail.image.relation import Edge, Kind

MAX_TTL = 7 * 24 * 3600
_IN = 1
_KINDS = {int(kind): kind for kind in Kind}
_ADDRESSES = frozenset({Kind.A, Kind.AAAA})


def refusal(message: Message) -> str | None:
    """Return the counter of a message that changes nothing in the image, or None if it counts (docs/capture.md)."""
    if not message.is_response:
        return "query"
    if message.opcode != 0:
        return "opcode"
    if message.question_count != 1:
        return "question_count"
    if message.cls != _IN:
        return "class"
    if message.answer_count == 0:
        return "no_answer"
    return None


def relate(message: Message, counters: Counter[str]) -> tuple[str, list[Edge]]:
    """Return the query root of a message that counts, and the relations that its records make, in their order.

    Records about another name are counted as `foreign_record`. Records of a reverse question that state no name of
    its address are counted as `unusable_record`.
    """
    if is_reverse(message.name):
        address = reverse_address(message.name)
        edges = _pointers(message, address) if address else []
        counters["unusable_record"] += len(message.answers) - len(edges)
        return address or "", edges
    records = _reached(message)
    if len(records) < len(message.answers):
        counters["foreign_record"] += len(message.answers) - len(records)
    edges = []
    for record in records:
        if record.type in _ADDRESSES and isinstance(record.target, str):  # always true; it narrows the type for mypy
            edges.append(Edge(record.owner, _KINDS[record.type], record.target, life(record.ttl)))
        else:
            edges += _edges(record)
    return message.name, edges


def life(ttl: int) -> int:
    """Return a TTL as it counts: 0 from 2^31 on (RFC 2181, section 8), and at most 7 days."""
    return min(ttl, MAX_TTL) if ttl < 1 << 31 else 0


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
    """Return the name to which a record leads, in a list that is otherwise empty."""
    if record.type in _ADDRESSES or record.type == Kind.PTR:
        return []
    target = record.target.target if isinstance(record.target, ServiceBinding) else record.target
    return [target] if is_node(target) else []


def _edges(record: Record) -> Iterator[Edge]:
    """Yield the relations of a record that is no address record."""
    kind, ttl = _KINDS[record.type], life(record.ttl)
    for name in _names(record):
        yield Edge(record.owner, kind, name, ttl)
    if isinstance(record.target, ServiceBinding) and record.target.service_mode:
        host = record.owner if record.target.target == ROOT else record.target.target
        if is_node(host):
            for hint in record.target.hints:
                yield Edge(host, kind, hint, ttl)


def _pointers(message: Message, address: str) -> list[Edge]:
    """Return the PTR relations of an address, through CNAMEs too (RFC 2317); a life is the shortest of its chain."""
    aliases: dict[str, list[Record]] = {}
    for record in message.answers:
        if record.type == Kind.CNAME:
            aliases.setdefault(record.owner, []).append(record)
    lives: dict[str, int] = {}
    pending = [(-MAX_TTL, message.name)]
    while pending:  # the chain with the longest life first
        rest, owner = heappop(pending)
        if owner in lives:
            continue
        lives[owner] = -rest
        for alias in aliases.get(owner, ()):
            heappush(pending, (-min(-rest, life(alias.ttl)), str(alias.target)))
    return [
        Edge(address, Kind.PTR, str(record.target), min(lives[record.owner], life(record.ttl)))
        for record in message.answers
        if record.type == Kind.PTR and record.owner in lives and is_node(str(record.target))
    ]
