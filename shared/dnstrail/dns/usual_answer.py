"""The usual answer, read in one pass: a chain of aliases and addresses in their order (RFC 1035, section 4.1)."""

from __future__ import annotations

import struct
from typing import Final

from dnstrail.dns.header import HEADER, IN, Header
from dnstrail.dns.name import POINTER, Known, Name, ordinary_text, read_name
from dnstrail.dns.names import is_node, is_reverse, packed_address_text, reverse_address
from dnstrail.errors import BadMessage

_LENGTHS: Final = {1: 4, 28: 16}  # bytes of the address in A and AAAA
_NAME_OFFSETS: Final = {5: 0, 15: 2}  # offset of the target in the RDATA of CNAME and MX
_POINTERS: Final = {12: 0}  # the same in the answer to a reverse question: PTR
_fields: Final = struct.Struct("!HHHIH").unpack_from  # a pointer to the owner, type, class, TTL, length of the RDATA
_SIZE: Final = 12

UsualAnswer = tuple[str, list[tuple[str, int, str]], list[int]]


def read_usual_answer(wire: bytes, header: Header) -> UsualAnswer | None:
    """Return the name in the question, its relations (owner, type, target), and their TTLs as sent.

    In a usual answer every owner is a pointer to the question or to an earlier target, and every record is of class IN
    and of type A, AAAA, CNAME or MX. The usual answer to a reverse question has only PTR records of that name; the
    result contains the address instead of the name. Return None for any other answer, which `decode` reads.

    Example, the answer to "a.com A": at offset 23, after header and question, the bytes

        c0 0c  00 01  00 01  00 00 01 2c  00 04  01 02 03 04

    are the owner (a pointer to offset 12, the name in the question), type A, class IN, TTL 300, length 4 and address.
    """
    at, question_end = header.end, header.end - 4
    question = ordinary_text(wire, HEADER, question_end)
    reverse = is_reverse(question)
    source = reverse_address(question) if reverse else question
    if source is None or (not reverse and not is_node(question)):
        return None
    offsets = _POINTERS if reverse else _NAME_OFFSETS
    known: Known = {HEADER: Name(question, question_end - HEADER, question_end)}
    owners = {POINTER + HEADER: source}
    reached = {source}  # the question and the targets before
    edges: list[tuple[str, int, str]] = []
    ttls: list[int] = []
    try:
        for _ in range(header.answer_count):
            pointer, rdtype, cls, ttl, length = _fields(wire, at)
            owner = owners.get(pointer) or _read_before(known, pointer, owners, reached)
            start = at + _SIZE
            at = start + length
            if owner is None or cls != IN or at > len(wire):
                return None
            if _LENGTHS.get(rdtype) == length and not reverse:
                target = packed_address_text(wire[start:at])
            elif rdtype in offsets:
                start += offsets[rdtype]
                name = read_name(wire, start, at, known)
                target = name.text
                if name.end != at or not is_node(target):
                    return None
                if not reverse:
                    owners[POINTER + start] = target
                    reached.add(target)
            else:
                return None
            edges.append((owner, rdtype, target))
            ttls.append(ttl)
    except (BadMessage, struct.error):
        return None
    return source, edges, ttls


def _read_before(known: Known, pointer: int, owners: dict[int, str], reached: set[str]) -> str | None:
    """Return the name at a pointer if it was read as part of another one, and is the question or a target itself."""
    name = known.get(pointer - POINTER)
    if name is None or name.text not in reached:
        return None
    owners[pointer] = name.text
    return name.text
