"""The header of a message, its question as bytes to compare, and its usual answer in one pass (RFC 1035, 4.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from dnstrail.dns.names import (
    MAX_NAME,
    POINTER,
    POINTER_BYTE,
    is_node,
    ordinary_labels,
    packed_address_text,
    read_name,
    reverse_address,
)
from dnstrail.dns.tables import Recent
from dnstrail.errors import BadMessage

HEADER: Final = 12  # bytes
IN: Final = 1
QR: Final = 0x8000
_QUESTIONS: Final = 8192  # that are remembered, in one half of the table

# A usual answer:
_A: Final = 1 << 16 | IN  # a type and the class
_AAAA: Final = 28 << 16 | IN
_NAME_OFFSETS: Final = {5 << 16 | IN: 0, 15 << 16 | IN: 2}  # offset of the target in the RDATA of CNAME and MX
_POINTERS: Final = {12 << 16 | IN: 0}  # the same in the answer to a reverse question: PTR
_Fields = Callable[[bytes, int], tuple[int, int, int, int]]
# A pointer to the owner, type and class, TTL, length of the RDATA.
_fields: Final[_Fields] = struct.Struct("!HIIH").unpack_from
_SIZE: Final = 12
_MAX_NAMES: Final = 15  # of one answer: none of them then has more pointers than dnspython follows
_MAX_LABELS: Final = 128  # bytes of the labels of one target: to read many longer ones twice takes long
_MAX_RECORDS: Final = 512  # `decode` reads more: a late record could make the pass useless
_TARGETS: Final = 8192  # that are remembered, in one half of the table


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

UsualAnswer = tuple[list[tuple[str, int, str]], list[int]]
_Names = list[tuple[int, int, str]]  # the names that were read: the offset and length of their labels, and their text
# Targets by their labels, and the name to which a pointer behind these leads.
_targets: Final = Recent[tuple[bytes, str], str](_TARGETS)


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


def read_usual_answer(wire: bytes, asked: HeaderQuestion, count: int) -> UsualAnswer | None:
    """Return the relations (owner, type, target) in the `count` records behind a question, and their TTLs as sent.

    In a usual answer every owner is a pointer to the question or to an earlier target, and every record is of class IN
    and of type A, AAAA, CNAME or MX. No target occurs twice. The usual answer to a reverse question has only PTR
    records of that name; the result contains the address instead of the name. Return None for any other answer, which
    `decode` reads.

    Example, the answer to "a.com A": at offset 23, after header and question, the bytes

        c0 0c  00 01  00 01  00 00 01 2c  00 04  01 02 03 04

    are the owner (a pointer to offset 12, the name in the question), type A, class IN, TTL 300, length 4 and address.
    """
    at, size, owner, before = asked.end, len(wire), asked.owner, POINTER + HEADER
    if not owner or count > _MAX_RECORDS:
        return None
    reverse = owner != asked.name
    offsets = _POINTERS if reverse else _NAME_OFFSETS
    names: _Names = []
    edges: list[tuple[str, int, str]] = []
    ttls: list[int] = []
    targets: set[str] = set()
    for _ in range(count):
        start = at + _SIZE
        if start > size:
            return None
        pointer, kind, ttl, length = _fields(wire, at)
        at = start + length
        if at > size:
            return None
        if pointer != before:
            owner, before = "" if reverse else _read_before(names, pointer - POINTER), pointer
            if not owner:
                return None
        if not reverse and ((kind == _A and length == 4) or (kind == _AAAA and length == 16)):
            target = packed_address_text(wire[start:at])
        else:
            if not names:
                names.append((HEADER, len(asked.name) + 1, asked.name))
            offset = offsets.get(kind)
            target = "" if offset is None else _read_target(wire, start + offset, at, names)
            if not target:
                return None
        edges.append((owner, kind >> 16, target))
        ttls.append(ttl)
        targets.add(target)
    return (edges, ttls) if len(targets) == count else None


def _read_target(wire: bytes, start: int, end: int, names: _Names) -> str:
    """Return the name that fills the bytes from `start` to `end`, and add it to `names`; "" for an unusual one."""
    if start >= end or len(names) >= _MAX_NAMES:
        return ""
    behind, rest = end - 1, ""
    if wire[behind - 1] >= POINTER_BYTE and behind > start:
        behind -= 1
        rest = _name_at(names, (wire[behind] << 8 | wire[behind + 1]) - POINTER)
        if not rest:
            return ""
    elif wire[behind] != 0:
        return ""
    if behind - start > _MAX_LABELS:
        return ""
    key = wire[start:behind], rest
    target = _targets.get(key)
    if target is None:
        target = _joined(*key)
        if target:  # other labels may be long
            _targets.add(key, target)
    names.append((start, behind - start, target))
    return target


def _joined(labels: bytes, rest: str) -> str:
    """Return the name of ordinary labels before another name; "" if it can be no target of a relation."""
    end, text = ordinary_labels(labels, 0, len(labels))
    if end != len(labels):
        return ""
    name = f"{text}.{rest}" if text and rest else text or rest
    return name if name and len(name) + 2 <= MAX_NAME and is_node(name) else ""


def _name_at(names: _Names, at: int) -> str:
    """Return the name at an offset if it was read, perhaps as part of another one; else ""."""
    for start, length, text in reversed(names):
        offset = at - start
        if offset == 0:
            return text
        if 0 < offset < length and text[offset - 1] == ".":
            return text[offset:]
    return ""


def _read_before(names: _Names, at: int) -> str:
    """Return the name at an offset if it is the question or an earlier target, else ""."""
    name = _name_at(names, at)
    for _, _, text in names:
        if text == name:
            return text
    return ""
