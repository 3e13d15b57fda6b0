"""The relations that a response states by its resource records (docs/inside/image.md)."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from dnstrail.captured import FORWARDER, Flow
from dnstrail.dns import Message, ResourceRecord, ServiceBinding, decode
from dnstrail.dns.header import Header, read_usual_answer
from dnstrail.dns.names import ROOT, is_node, is_reverse, reverse_address
from dnstrail.dns.rdata import ADDRESSES, CNAME, PTR
from dnstrail.dns.tables import Recent
from dnstrail.errors import BadMessage
from dnstrail.image.answer import Answer, Edge
from dnstrail.image.bounds import SECOND

_AA: Final = 0x0400  # flags of the header: authoritative answer, recursion available
_RA: Final = 0x0080
MAX_TTL: Final = 7 * 24 * 3600  #: seconds of a TTL -> the TTL counts as 7 days
_LIVES: Final = 4096  # tuples of TTLs whose lives are remembered, in one half of the table
_known_lives: Final = Recent[tuple[int, ...], tuple[int, ...]](_LIVES)
_LEADLESS: Final = ADDRESSES | {PTR}  # types that lead to no further name


def read_answer(payload: bytes, header: Header, flow: Flow | None, counters: dict[str, int], most: int) -> Answer:
    """Decode a response that counts, and return the answer in it; the first `most` relations count."""
    authoritative = header.flags & (_AA | _RA) == _AA
    own_only = authoritative and flow is not None and flow.role == FORWARDER and not flow.egress
    if not own_only:
        usual = relate_usual(payload, header, most)
        if usual is not None:
            return usual
    try:
        message = decode(payload)
    except BadMessage:  # impossible, since the question is whole
        counters["bad_message"] += 1
        return Answer("")
    if message.skipped:
        counters["bad_record"] += message.skipped
    if message.damaged:
        counters["cut_short"] += 1
    return relate(message, counters, most, own_only=own_only)


def relate_usual(wire: bytes, header: Header, most: int) -> Answer | None:
    """Return a usual answer, read in one pass; None for any other answer, which `relate` reads."""
    asked, count = header.asked, header.answer_count
    read = read_usual_answer(wire, asked, count) if count <= most else None
    return None if read is None else Answer(asked.owner, asked.type, tuple(read[0]), _lives(tuple(read[1])))


def relate(message: Message, counters: dict[str, int], most: int, *, own_only: bool = False) -> Answer:
    """Return the relations that the records of a response state, in their order; the first `most` count.

    If a relation is stated twice, its longer life counts. With `own_only` only the records of the question's own name
    count. Records about another name are counted as `foreign_record`. Records of a reverse question that state no name
    of its address are counted as `unusable_record`.
    """
    if is_reverse(message.name):
        address = reverse_address(message.name)
        edges, lives = _pointers(message, address, own_only=own_only) if address else ([], [])
        counters["unusable_record"] += len(message.answers) - len(edges)
        return _stated(address or "", message.type, edges, lives, most, counters)
    records, names = _reached(message)
    if own_only:
        records = [record for record in records if record.owner == message.name]
    if len(records) < len(message.answers):
        counters["foreign_record"] += len(message.answers) - len(records)
    edges, lives = [], []
    for record in records:
        rdtype, target = record.type, record.target
        if not isinstance(target, str):
            bound = _service_edges(record, target, names, counters)
            edges += bound
            lives += [life(record.ttl)] * len(bound)
        elif rdtype in ADDRESSES or (target in names and rdtype != PTR):
            edges.append((record.owner, rdtype, target))
            lives.append(life(record.ttl))
    return _stated(message.name, message.type, edges, lives, most, counters)


def _stated(
    question: str, rdtype: int, edges: list[Edge], lives: list[int], most: int, counters: dict[str, int]
) -> Answer:
    if len(edges) <= most and len({target for _, _, target in edges}) == len(edges):  # no relation is stated twice
        return Answer(question, rdtype, tuple(edges), tuple(lives))
    longest = dict(zip(edges, lives, strict=True))
    if len(longest) < len(edges):
        for edge, ns in zip(edges, lives, strict=True):
            if ns > longest[edge]:
                longest[edge] = ns
    if len(longest) > most:
        counters["evicted_owned"] += len(longest) - most
    return Answer(question, rdtype, tuple(longest)[:most], tuple(longest.values())[:most])


def _lives(ttls: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lives that TTLs give. Answers with the same TTLs, as most have, share one tuple."""
    lives = _known_lives.get(ttls)
    if lives is None:
        lives = tuple(map(life, ttls))
        _known_lives.add(ttls, lives)
    return lives


def life(ttl: int) -> int:
    """Return the life (ns) that a TTL gives: 0 from 2^31 on (RFC 2181, section 8), and at most 7 days."""
    if ttl <= MAX_TTL:
        return ttl * SECOND
    return MAX_TTL * SECOND if ttl < 1 << 31 else 0


def _reached(message: Message) -> tuple[list[ResourceRecord], set[str]]:
    """Return the records whose owner is the question's name, or is reached from it through other records.

    Return also the names that are reached, with those to which these records lead.
    """
    if not is_node(message.name):
        return [], set()
    names = {message.name}
    for record in message.answers:
        if record.owner not in names:
            break
        if record.type not in ADDRESSES:
            name = _target(record)
            if name not in names and name != ROOT and _leads(record, name):
                names.add(name)
    else:
        return message.answers, names  # the usual case: servers send a chain in its order
    targets: dict[str, list[str]] = {}
    for record in message.answers:
        name = _target(record)
        if _leads(record, name):
            targets.setdefault(record.owner, []).append(name)
    names = {message.name}
    pending = [message.name]
    while pending:
        fresh = [name for name in targets.get(pending.pop(), ()) if name not in names]
        names.update(fresh)
        pending += fresh
    return [record for record in message.answers if record.owner in names], names


def _target(record: ResourceRecord) -> str:
    return record.target if isinstance(record.target, str) else record.target.target


def _leads(record: ResourceRecord, name: str) -> bool:
    """Return whether a record leads to a name, its target."""
    return record.type not in _LEADLESS and is_node(name)


def _service_edges(
    record: ResourceRecord, service: ServiceBinding, names: set[str], counters: dict[str, int]
) -> list[Edge]:
    """Return the relations of a service binding: to its target, and from that to the hints."""
    owner, rdtype, target = record.owner, record.type, service.target
    edges = [(owner, rdtype, target)] if target in names else []
    host = owner if target == ROOT else target
    if service.service_mode and host in names:
        edges += [(host, rdtype, hint) for hint in service.hints]
        if service.more:
            counters["evicted_owned"] += service.more
    return edges


def _pointers(message: Message, address: str, *, own_only: bool) -> tuple[list[Edge], list[int]]:
    """Return the PTR relations of an address, through CNAMEs too (RFC 2317); a life is the shortest of its chain."""
    aliases: dict[str, list[ResourceRecord]] = {}
    for record in () if own_only else message.answers:
        if record.type == CNAME:
            aliases.setdefault(record.owner, []).append(record)
    lives: dict[str, int] = {}
    pending = [(-life(MAX_TTL), message.name)]
    while pending:  # the chain with the longest life first
        rest, owner = heappop(pending)
        if owner in lives:
            continue
        lives[owner] = -rest
        for alias in aliases.get(owner, ()):
            heappush(pending, (-min(-rest, life(alias.ttl)), _target(alias)))
    stated = [
        record
        for record in message.answers
        if record.type == PTR and record.owner in lives and is_node(_target(record))
    ]
    edges = [(address, record.type, _target(record)) for record in stated]
    return edges, [min(lives[record.owner], life(record.ttl)) for record in stated]
