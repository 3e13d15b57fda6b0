"""The header of a message, and its question as bytes to compare (RFC 1035, section 4.1)."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from dnstrail.dns.name import ordinary_name_end, read_name
from dnstrail.errors import BadMessage

HEADER: Final = 12  # bytes
IN: Final = 1
QR: Final = 0x8000
_header: Final = struct.Struct("!2H2H").unpack_from
_class: Final = struct.Struct("!H").unpack_from


class Header(msgspec.Struct, frozen=True, gc=False):
    """The header of a message, and its question if there is exactly one.

    `question` consists of the id of the message, the name in lower case, and the type. It is the same in a query and in
    its response. `cls` is the class of the question, and `end` the offset after it. A message with another number of
    questions has the defaults. `ordinary` states that the name needs no escapes and no pointers.
    """

    flags: int
    question_count: int
    answer_count: int
    question: bytes = b""
    cls: int = 0
    end: int = HEADER
    ordinary: bool = False

    @property
    def is_response(self) -> bool:
        """True if the flag QR is set."""
        return bool(self.flags & QR)

    @property
    def opcode(self) -> int:
        """The OPCODE; 0 is QUERY."""
        return self.flags >> 11 & 0xF


def read_header(wire: bytes) -> Header:
    """Read the header and the only question of a message, and nothing after them.

    Raises:
        BadMessage: the header, or the question of a response, is cut short. A query without a whole question has none.
    """
    if len(wire) < HEADER:
        raise BadMessage("shorter than a header")
    _, flags, questions, answers = _header(wire)
    if questions != 1:
        return Header(flags, questions, answers)
    try:
        return _with_question(wire, flags, answers)
    except BadMessage:
        if flags & QR:
            raise
        return Header(flags, 1, answers)


def _with_question(wire: bytes, flags: int, answers: int) -> Header:
    end = ordinary_name_end(wire, HEADER)
    ordinary = end != 0
    if ordinary:
        name = wire[HEADER:end].lower()  # lengths are less than any upper-case letter
    else:
        read = read_name(wire, HEADER, len(wire), {})
        end, name = read.end, read.text.encode()
    if end + 4 > len(wire):
        raise BadMessage("the question is cut short")
    question = wire[:2] + name + wire[end : end + 2]
    return Header(flags, 1, answers, question, _class(wire, end + 2)[0], end + 4, ordinary)
