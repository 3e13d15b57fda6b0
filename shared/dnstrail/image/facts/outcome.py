"""The outcome of a response."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.header import IN, Header
from dnstrail.dns.message import read_question, read_record
from dnstrail.dns.names import Known
from dnstrail.dns.rdata import CNAME, TYPES, read_rdata
from dnstrail.image.answer import Answer
from dnstrail.image.facts.transaction import (
    ANSWERED,
    FAILED,
    NO_DATA,
    NXDOMAIN,
    REFUSED,
    TRUNCATED,
    UNKNOWN,
)

RCODE: Final = 0x000F
_TRUNCATED: Final = 0x0200
_OF_ALL_TYPES: Final = frozenset({251, 252, 255})  # IXFR, AXFR, ANY: types that ask for records of others
_OF_RCODE: Final = {3: NXDOMAIN, 5: REFUSED}


def read_outcome(header: Header, payload: bytes, answer: Answer | None) -> str:
    """Return the outcome of a response. Without an answer its records were not read."""
    flags = header.flags
    if flags & _TRUNCATED:
        return TRUNCATED
    if flags & RCODE:
        return _OF_RCODE.get(flags & RCODE, FAILED)
    if not header.answer_count:
        return NO_DATA
    if answer is None:
        return UNKNOWN
    name, asked = header.asked.owner, header.asked.type
    for owner, rdtype, target in answer.edges:  # in a usual answer the chain is in its order
        if owner == name:
            if rdtype == asked:
                return ANSWERED
            if rdtype == CNAME:
                name = target
    return ANSWERED if _states(payload, header) else NO_DATA


def _states(payload: bytes, header: Header) -> bool:
    """Return whether a record of the asked type belongs to the question's name, or to a name that its aliases reach.

    Many types, and some records of the others, make no relation.
    """
    known: Known = {}
    name, asked, _, at = read_question(payload, known)
    owners: set[str] = set()
    aliases: dict[str, list[str]] = {}
    for _ in range(header.answer_count):
        record = read_record(payload, at, known)
        if record is None:
            break
        owner, rdtype, cls, _, start, at = record
        wanted = asked == rdtype or asked in _OF_ALL_TYPES
        if cls != IN or not (wanted or rdtype == CNAME):
            continue
        target = read_rdata(payload, rdtype, start, at, known) if rdtype in TYPES else ""
        if target is not None and wanted:
            owners.add(owner.text)
        if rdtype == CNAME and isinstance(target, str):
            aliases.setdefault(owner.text, []).append(target)
    return not owners.isdisjoint(_reached(name, aliases))


def _reached(name: str, aliases: dict[str, list[str]]) -> set[str]:
    """Return a name, and those to which its aliases lead."""
    reached, pending = {name}, [name]
    while pending:
        for target in aliases.get(pending.pop(), ()):
            if target not in reached:
                reached.add(target)
                pending.append(target)
    return reached
