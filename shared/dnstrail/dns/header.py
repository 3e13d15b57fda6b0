"""The header of a message, and its question as bytes to compare (RFC 1035, section 4.1)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.name import MAX_NAME, ordinary_labels, read_name
from dnstrail.dns.names import is_node, reverse_address
from dnstrail.dns.recent import Recent
from dnstrail.errors import BadMessage

HEADER: Final = 12  # bytes
IN: Final = 1
QR: Final = 0x8000
_QUESTIONS: Final = 8192  # that are remembered, in one half of the table


class HeaderQuestion:
    """A question: its bytes to compare, with the name in lower case; its type, its class, and the offset behind it.

    `name` is the name as text if it is ordinary: it needs no escapes, and has no pointers. Else it is "". `owner` owns
    the relations of a usual answer: it is the name, or the address that a reverse name encodes; "" if there is none.
    """

    __slots__ = ("cls", "end", "key", "name", "owner", "type")

    def __init__(self, key: bytes, rdtype: int, cls: int, end: int, name: str = "") -> None:
        self.key = key
        self.type = rdtype
        self.cls = cls
        self.end = end
        self.name = name
        self.owner = name if is_node(name) else reverse_address(name) or ""


_NO_QUESTION: Final = HeaderQuestion(b"", 0, 0, HEADER)
_known: Final = Recent[bytes, HeaderQuestion](_QUESTIONS)  # ordinary questions by their bytes


class Header:
    """The header of a message, and its question if there is exactly one.

    `question` consists of the id of the message and of its question. It is the same in a query and in
    its response. A message with another number of questions has b"".
    """

    flags: int = 0
    answer_count: int = 0
    question: bytes = b""
    asked: HeaderQuestion = _NO_QUESTION


def read_header(wire: bytes) -> Header:
    """Read the header and the only question of a message, and nothing after them.

    Raises:
        BadMessage: the header, or the question of a response, is cut short. A query without a whole question has none.
    """
    if len(wire) < HEADER:
        raise BadMessage("shorter than a header")
    header = Header()
    header.flags = wire[2] << 8 | wire[3]
    header.answer_count = wire[6] << 8 | wire[7]
    if wire[4] or wire[5] != 1:
        return header
    end = wire.find(0, HEADER) + 5  # an ordinary name contains no other byte 0
    asked = _known.get(wire[HEADER:end]) if end > HEADER else None
    if asked is None:
        try:
            asked = _read_question(wire)
        except BadMessage:
            if header.flags & QR:
                raise
            return header
    header.asked, header.question = asked, wire[:2] + asked.key
    return header


def _read_question(wire: bytes) -> HeaderQuestion:
    end, text = ordinary_labels(wire, HEADER, len(wire))
    ordinary = HEADER < end < len(wire) and wire[end] == 0 and end - HEADER < MAX_NAME
    if ordinary:
        end += 1
        name = wire[HEADER:end].lower()  # lengths are less than any letter
    else:
        read = read_name(wire, HEADER, len(wire), {})
        if read is None:
            raise BadMessage("the question has no name")
        end, name, text = read.end, read.text.encode(), ""
    if end + 4 > len(wire):
        raise BadMessage("the question is cut short")
    rdtype, cls = wire[end] << 8 | wire[end + 1], wire[end + 2] << 8 | wire[end + 3]
    raw, key = wire[HEADER : end + 4], name + wire[end : end + 4]
    asked = HeaderQuestion(raw if key == raw else key, rdtype, cls, end + 4, text)
    if ordinary:
        _known.add(raw, asked)
    return asked


_NO_DATA, _FAILED, _NXDOMAIN, _REFUSED = 0, 2, 3, 5
_OUTCOMES: Final = {_NO_DATA: "no data", _FAILED: "failed", _NXDOMAIN: "NXDOMAIN", _REFUSED: "refused"}


def outcome_of_rcode(rcode: int) -> str:
    """Return "no data", "failed", "NXDOMAIN", "refused", or "rcode N"."""
    return _OUTCOMES.get(rcode, f"rcode {rcode}")
