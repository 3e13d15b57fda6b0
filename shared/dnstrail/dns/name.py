"""Domain names on the wire: labels and compression pointers (RFC 1035, sections 3.1 and 4.1.4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import msgspec

from dnstrail.dns.names import PLAIN, ROOT, label_text
from dnstrail.errors import BadMessage

MAX_NAME = 255  # bytes on the wire, the root's among them
MAX_POINTERS = 16  # in one name, as dnspython has it
POINTER = 0xC000  # added to an offset it is a pointer there
_POINTER_BYTE = POINTER >> 8
_RESERVED = 0x40  # the first byte that is no length of a label (RFC 1035, 4.1.4: 0x40 and 0x80 are reserved)

# Ordinary labels: of up to 32 bytes, lest a length look like a character, and with nothing to escape. One match finds
# where they end, and one translation makes their text: the length of each label becomes the dot before it.
_LENGTHS = bytes(range(1, 33))
_LABEL = b"|".join(b"%s[%sA-Z]{%d}" % (re.escape(bytes([length])), re.escape(PLAIN), length) for length in _LENGTHS)
_Match = Callable[[bytes, int, int], re.Match[bytes]]
_ordinary_labels = cast(_Match, re.compile(b"(?:%s){0,127}+" % _LABEL).match)  # it always matches: no label will do
_ordinary_name = re.compile(b"(?:%s){1,127}+\0" % _LABEL).match
_DOTTED = bytes(range(256)).lower().translate(bytes.maketrans(_LENGTHS, b"." * len(_LENGTHS)))


class Name(msgspec.Struct, frozen=True, gc=False):
    """The name at one offset: its text, its length on the wire, and how many pointers it follows.

    `end` lies behind its first run of labels and the root or pointer that ends them. `led` is the `end` of what that
    pointer leads to: by dnspython's rule, by which every name ends, it does not lie behind the start of the run.
    """

    text: str
    length: int
    end: int
    pointers: int = 0
    led: int = 0


Known = dict[int, Name | None]  # by offset, within one message; None: no name stands there


def read_name(wire: bytes, start: int, end: int, known: Known) -> Name:
    """Read the name at `start`, whose first run of labels ends by `end`.

    `known` remembers what was read, since most names lead to one before.

    Raises:
        BadMessage: a label of no known type, a bad pointer, or a name past `end` or 255 bytes.
    """
    at = _ordinary_labels(wire, start, end).end()
    last = wire[at] if at < end else _RESERVED
    if last == 0 and at - start < MAX_NAME:
        name = known[start] = Name(wire[start + 1 : at].translate(_DOTTED).decode() or ROOT, at + 1 - start, at + 1)
        return name
    if last >= _POINTER_BYTE and at + 1 < end:
        target = (last << 8 | wire[at + 1]) - POINTER
        rest = known.get(target) or _read_rest(wire, target, known)
        if rest and rest.end <= start and rest.pointers < MAX_POINTERS and at - start + rest.length <= MAX_NAME:
            text = wire[start + 1 : at].translate(_DOTTED).decode()
            if rest.length > 1:
                text = f"{text}.{rest.text}" if text else rest.text
            name = known[start] = Name(text or ROOT, at - start + rest.length, at + 2, rest.pointers + 1, rest.end)
            return name
    found = _walk(wire, start, known)
    if found is None or found.end > end:
        raise BadMessage("a name with a bad label or pointer, past its end, or of more than 255 bytes")
    return found


def _read_rest(wire: bytes, target: int, known: Known) -> Name | None:
    """What a pointer leads to that is not known, or known to be none: most often the end of an ordinary name."""
    if target not in known and _ordinary_name(wire, target):
        return read_name(wire, target, len(wire), known)
    return _walk(wire, target, known)


def _walk(wire: bytes, start: int, known: Known) -> Name | None:
    """Read the name at `start` label by label, and with it those that start at each of its labels and pointers.

    What is found at an offset does not depend on who asks, so nothing is walked twice: it is linear in the message.
    """
    steps: list[tuple[int, bytes]] = []  # offset, and the label there; none: a pointer
    at = start
    while at not in known:
        known[at] = None  # until the name has ended, and if it comes back here
        first = wire[at] if at < len(wire) else _RESERVED
        if first == 0:
            known[at] = Name(ROOT, 1, at + 1)
        elif first < _RESERVED:
            steps.append((at, wire[at + 1 : at + 1 + first]))
            at += 1 + first
        elif first >= _POINTER_BYTE and at + 1 < len(wire):
            steps.append((at, b""))
            at = (first << 8 | wire[at + 1]) - POINTER
    rest = known[at]
    while rest and steps:
        at, label = steps.pop()
        rest = known[at] = _with_label(at, label, rest) if label else _by_pointer(at, rest)
    return rest


def _with_label(at: int, label: bytes, rest: Name) -> Name | None:
    length = 1 + len(label) + rest.length
    if length > MAX_NAME or rest.led > at:
        return None
    text = label_text(label) if rest.length == 1 else f"{label_text(label)}.{rest.text}"
    return Name(text, length, rest.end, rest.pointers, rest.led)


def _by_pointer(at: int, rest: Name) -> Name | None:
    if rest.end > at or rest.pointers >= MAX_POINTERS:
        return None
    return Name(rest.text, rest.length, at + 2, rest.pointers + 1, rest.end)
