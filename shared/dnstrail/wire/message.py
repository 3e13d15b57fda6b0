"""One DNS message: its header, its question, and those answers that can make relations (RFC 1035, section 4.1)."""

from __future__ import annotations

from struct import Struct

import msgspec

from dnstrail.errors import BadMessage
from dnstrail.wire.name import Known, read_name
from dnstrail.wire.rdata import TYPES, ServiceBinding, read_rdata

IN = 1
_QR = 0x8000
_HEADER = Struct("!6H")
_QUESTION = Struct("!2H")
_RECORD = Struct("!HHIH")


class Record(msgspec.Struct, frozen=True, gc=False):
    """One answer: owner and target in the form of DESIGN 5.1, type, and TTL in seconds as it stands."""

    owner: str
    type: int
    ttl: int
    target: str | ServiceBinding


class Message(msgspec.Struct, frozen=True):
    """What was read; `damaged` says that the framing broke, `skipped` counts records with a bad RDATA."""

    id: int
    flags: int
    question_count: int
    answer_count: int
    name: str = ""
    type: int = 0
    cls: int = 0
    answers: list[Record] = []
    skipped: int = 0
    damaged: bool = False

    @property
    def is_response(self) -> bool:
        """QR."""
        return bool(self.flags & _QR)

    @property
    def opcode(self) -> int:
        """OPCODE; 0 is QUERY."""
        return self.flags >> 11 & 0xF


def is_response(wire: bytes) -> bool:
    """Whether a message says that it is a response, without a look at the rest of it."""
    return len(wire) >= _HEADER.size and wire[2] >= 0x80  # noqa: PLR2004 - QR is the first bit of the flags


def decode(wire: bytes) -> Message:
    """Read a message: of a response with just one question that question, and the answers of class IN and a known type.

    Takes time linear in the size of the message, whatever it holds.

    Raises:
        BadMessage: the header, or a response's question, is not whole; damage further on is only marked.
    """
    if len(wire) < _HEADER.size:
        raise BadMessage("shorter than a header")
    id_, flags, questions, answers, _, _ = _HEADER.unpack_from(wire)
    if questions != 1 or not flags & _QR:
        return Message(id_, flags, questions, answers)
    known: Known = {}
    name, at = read_name(wire, _HEADER.size, len(wire), known)
    if at + _QUESTION.size > len(wire):
        raise BadMessage("the question is cut short")
    rdtype, cls = _QUESTION.unpack_from(wire, at)
    records: list[Record] = []
    skipped, damaged = _read_answers(wire, at + _QUESTION.size, answers, known, records)
    return Message(id_, flags, 1, answers, name, rdtype, cls, records, skipped, damaged)


def _read_answers(wire: bytes, at: int, count: int, known: Known, into: list[Record]) -> tuple[int, bool]:
    skipped = 0
    for _ in range(count):
        try:
            owner, at = read_name(wire, at, len(wire), known)
        except BadMessage:
            return skipped, True
        start = at + _RECORD.size
        if start > len(wire):
            return skipped, True
        rdtype, cls, ttl, length = _RECORD.unpack_from(wire, at)
        at = start + length
        if at > len(wire):
            return skipped, True
        if cls != IN or rdtype not in TYPES:
            continue
        try:
            into.append(Record(owner, rdtype, ttl, read_rdata(wire, rdtype, start, at, known)))
        except BadMessage:
            skipped += 1
    return skipped, False
