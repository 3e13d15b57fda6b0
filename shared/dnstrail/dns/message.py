"""One DNS message: header, question, and the answers that can make relations (RFC 1035, section 4.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from dnstrail.dns.header import HEADER, IN, QR
from dnstrail.dns.names import MAX_POINTERS, POINTER, POINTER_BYTE, Known, Name, read_name, v4_text
from dnstrail.dns.rdata import SVCB, TYPES, A, read_rdata
from dnstrail.dns.service_binding import ServiceBinding
from dnstrail.errors import BadMessage

#: service bindings (SVCB, HTTPS) of one message -> the others are skipped: `bad_record`
MAX_BINDINGS: Final = 512  # real messages have a few
_FIELDS: Final = 10  # bytes behind the owner of a record, before its RDATA
_SOA: Final = 6  # a type: the start of a zone
_TXT: Final = 16  # a type
_header = struct.Struct("!4H").unpack_from
_question = struct.Struct("!2H").unpack_from  # behind its name
_record = struct.Struct("!HHIH").unpack_from  # behind its owner, before its RDATA
_usual_record = struct.Struct("!HHHIH").unpack_from  # the same, with a pointer as its owner


class ResourceRecord(msgspec.Struct, frozen=True, gc=False):
    """One resource record: owner and target in canonical form, type, and TTL in seconds as sent."""

    owner: str
    type: int
    ttl: int
    target: str | ServiceBinding


class Message(msgspec.Struct, frozen=True):
    """A decoded message.

    Question and answers are decoded only in a response with exactly one question. `answers` are the records of class
    IN and of a known type. `skipped` counts records with bad RDATA, and those beyond MAX_KNOWN or MAX_BINDINGS.
    `damaged` states that the framing is broken, or that an owner lies beyond MAX_KNOWN: `answers` then ends there.
    """

    wire: bytes
    id: int
    flags: int
    answer_count: int
    name: str = ""
    type: int = 0
    cls: int = 0
    answers: list[ResourceRecord] = []
    skipped: int = 0
    damaged: bool = False


def is_response(wire: bytes) -> bool:
    """Return whether the flag QR of a message is set; nothing else is read."""
    return len(wire) >= HEADER and wire[2] >= 0x80


def decode(wire: bytes) -> Message:
    """Decode a message, in time linear in its size for any bytes.

    Raises:
        BadMessage: the header or the question is cut short. Damage behind them sets `damaged`.
    """
    if len(wire) < HEADER:
        raise BadMessage("shorter than a header")
    id_, flags, questions, answers = _header(wire)
    if questions != 1 or not flags & QR:
        return Message(wire, id_, flags, answers)
    known: Known = {}
    name, rdtype, cls, at = read_question(wire, known)
    records, skipped, damaged = _read_answers(wire, at, answers, known)
    return Message(wire, id_, flags, answers, name, rdtype, cls, records, skipped, damaged)


def read_question(wire: bytes, known: Known) -> tuple[str, int, int, int]:
    """Return the name, type and class of the first question, and the offset behind it.

    Raises:
        BadMessage: the question is cut short.
    """
    name = read_name(wire, HEADER, len(wire), known)
    at = len(wire) if name is None else name.end + 4
    if name is None or at > len(wire):
        raise BadMessage("the question is cut short")
    rdtype, cls = _question(wire, name.end)
    return name.text, rdtype, cls, at


def denying_zone(wire: bytes, at: int) -> str | None:
    """Return the zone that denies the name of a response without answers; None if the response names none.

    It is the owner of the first SOA record in the authority section (RFC 2308, section 2.1), which begins at `at`. The
    work is linear in the size of the message.
    """
    known: Known = {}
    for _ in range(wire[8] << 8 | wire[9]):
        record = read_record(wire, at, known)
        if record is None:
            return None
        owner, rdtype, _, _, _, at = record
        if rdtype == _SOA:
            return owner.text
    return None


def read_record(wire: bytes, at: int, known: Known) -> tuple[Name, int, int, int, int, int] | None:
    """Return the owner, type, class and TTL of the record at an offset, and where its RDATA begins and ends.

    Return None for a record that is cut short, or whose owner is no name.
    """
    owner = read_name(wire, at, len(wire), known)
    if owner is None or owner.end + _FIELDS > len(wire):
        return None
    rdtype, cls, ttl, length = _record(wire, owner.end)
    start = owner.end + _FIELDS
    return (owner, rdtype, cls, ttl, start, start + length) if start + length <= len(wire) else None


def answer_texts(wire: bytes, at: int) -> Iterator[bytes]:
    """Yield the texts of the TXT records among the answers of a response, each with its strings joined.

    The answer section begins at `at`. The texts of a damaged message end with the damage. The work is linear in the
    size of the message.
    """
    for _ in range(wire[6] << 8 | wire[7]):
        while at < len(wire) and 0 < wire[at] < POINTER_BYTE:  # the labels of the owner
            at += 1 + wire[at]
        if at >= len(wire):
            return
        at += 2 if wire[at] else 1
        if at + _FIELDS > len(wire):
            return
        rdtype, _, _, length = _record(wire, at)
        at += _FIELDS + length
        if at > len(wire):
            return
        if rdtype == _TXT:
            yield _joined(wire[at - length : at])


def _joined(strings: bytes) -> bytes:
    """Return the strings of a TXT record, each of which has its length before it, as one text."""
    at, parts = 0, []
    while at < len(strings):
        end = at + 1 + strings[at]
        parts.append(strings[at + 1 : end])
        at = end
    return b"".join(parts)


def _read_answers(wire: bytes, at: int, count: int, known: Known) -> tuple[list[ResourceRecord], int, bool]:
    """Return the records that can make relations, the number of skipped records, and whether the framing is broken.

    Example, the answer to "a.com A": at offset 23, behind header and question, the bytes

        c0 0c  00 01  00 01  00 00 01 2c  00 04  01 02 03 04

    are owner (a pointer to offset 12, the name in the question), type A, class IN, TTL 300, length 4 and address.
    One `_usual_record` reads all but the address, and `known` already holds the name at offset 12. Any other record
    takes the slower path: `read_record`, and `read_rdata` for its target.
    """
    records: list[ResourceRecord] = []
    skipped, bindings, size = 0, 0, len(wire)
    for _ in range(count):
        try:
            pointer, rdtype, cls, ttl, length = _usual_record(wire, at)
        except struct.error:
            pointer = 0
        owner, start = known.get(pointer - POINTER), at + 12
        if owner is None or owner.end > at or owner.pointers == MAX_POINTERS:
            record = read_record(wire, at, known)
            if record is None:
                return records, skipped, True
            owner, rdtype, cls, ttl, start, at = record
        else:
            at = start + length
        if at > size:
            return records, skipped, True
        if cls != IN:
            continue
        if rdtype == A and at - start == 4:
            records.append(ResourceRecord(owner.text, A, ttl, v4_text(wire[start:at])))
        elif rdtype in TYPES:
            bindings += rdtype >= SVCB
            target = read_rdata(wire, rdtype, start, at, known) if bindings <= MAX_BINDINGS else None
            if target is None:
                skipped += 1
            else:
                records.append(ResourceRecord(owner.text, rdtype, ttl, target))
    return records, skipped, False
