"""The header of a message, and its question as bytes to compare (RFC 1035, section 4.1)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.halves import Halves
from dnstrail.dns.name import ordinary_name_end, ordinary_text, read_name
from dnstrail.dns.names import is_node, is_reverse, reverse_address
from dnstrail.errors import BadMessage

HEADER: Final = 12  # bytes
IN: Final = 1
QR: Final = 0x8000
_QUESTIONS: Final = 2048  # in one half of the table


class Question:
    """A question: its bytes to compare, with the name in lower case; its type, its class, and the offset behind it.

    `name` is the name as text if it is ordinary: it needs no escapes, and has no pointers. Else it is "". `owner` owns
    the relations of a usual answer: it is the name, or the address that a reverse name encodes; "" if there is none.
    """

    __slots__ = ("cls", "end", "key", "name", "owner", "reverse", "type")

    def __init__(self, key: bytes, rdtype: int, cls: int, end: int, name: str = "") -> None:
        self.key = key
        self.type = rdtype
        self.cls = cls
        self.end = end
        self.name = name
        self.reverse = is_reverse(name)
        self.owner = reverse_address(name) or "" if self.reverse else name if name and is_node(name) else ""


class Header:
    """The header of a message, and its question if there is exactly one.

    `question` consists of the id of the message and of its question. It is the same in a query and in
    its response. A message with another number of questions has b"".
    """

    __slots__ = ("answer_count", "asked", "flags", "question", "question_count")

    def __init__(self, flags: int, question_count: int, answer_count: int, question: bytes, asked: Question) -> None:
        self.flags = flags
        self.question_count = question_count
        self.answer_count = answer_count
        self.question = question
        self.asked = asked

    @property
    def is_response(self) -> bool:
        """True if the flag QR is set."""
        return bool(self.flags & QR)

    @property
    def opcode(self) -> int:
        """The OPCODE; 0 is QUERY."""
        return self.flags >> 11 & 0xF


_NO_QUESTION: Final = Question(b"", 0, 0, HEADER)
_known: Final[Halves[Question]] = Halves(_QUESTIONS)  # ordinary questions by their bytes


def read_header(wire: bytes) -> Header:
    """Read the header and the only question of a message, and nothing after them.

    Raises:
        BadMessage: the header, or the question of a response, is cut short. A query without a whole question has none.
    """
    if len(wire) < HEADER:
        raise BadMessage("shorter than a header")
    flags = wire[2] << 8 | wire[3]
    questions, answers = wire[4] << 8 | wire[5], wire[6] << 8 | wire[7]
    if questions != 1:
        return Header(flags, questions, answers, b"", _NO_QUESTION)
    end = wire.find(0, HEADER) + 5  # an ordinary name contains no other byte 0
    asked = _known.get(wire[HEADER:end]) if end > HEADER else None
    if asked is None:
        try:
            asked = _read_question(wire)
        except BadMessage:
            if flags & QR:
                raise
            return Header(flags, 1, answers, b"", _NO_QUESTION)
    return Header(flags, 1, answers, wire[:2] + asked.key, asked)


def _read_question(wire: bytes) -> Question:
    end = ordinary_name_end(wire, HEADER)
    ordinary = end != 0
    if ordinary:
        name = wire[HEADER:end].lower()  # lengths are less than any letter
        text = ordinary_text(wire[HEADER : end - 1])
    else:
        read = read_name(wire, HEADER, len(wire), {})
        if read is None:
            raise BadMessage("the question has no name")
        end, name, text = read.end, read.text.encode(), ""
    if end + 4 > len(wire):
        raise BadMessage("the question is cut short")
    rdtype, cls = wire[end] << 8 | wire[end + 1], wire[end + 2] << 8 | wire[end + 3]
    key, raw = name + wire[end : end + 4], wire[HEADER : end + 4]
    asked = Question(raw if key == raw else key, rdtype, cls, end + 4, text)
    if ordinary:
        _known.put(raw, asked)
    return asked
