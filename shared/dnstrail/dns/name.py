"""Domain names on the wire: labels and compression pointers (RFC 1035, sections 3.1 and 4.1.4)."""

from __future__ import annotations

from typing import Final

import msgspec

from dnstrail.dns.names import PLAIN, ROOT, label_text

MAX_NAME: Final = 255  # bytes on the wire, with the byte of the root
MAX_POINTERS: Final = 16  # in one name, as in dnspython
#: names of one message -> a record that leads to a further name is skipped: `bad_record`; a further owner ends the
#: message: `cut_short`
MAX_KNOWN: Final = 2048  # real messages have up to 20
POINTER: Final = 0xC000  # POINTER + offset is a pointer to the offset
POINTER_BYTE: Final = POINTER >> 8  # the least first byte of a pointer
_RESERVED: Final = 0x40  # the lowest byte that is no length of a label (RFC 1035, 4.1.4: 0x40 and 0x80 are reserved)

# Ordinary labels have nothing to escape, and at most 32 bytes: no length equals a character. One translation makes
# their text: the length of each label becomes the dot before it. Any other byte becomes one dot too many.
_LONGEST: Final = 32
_MAX_LABELS: Final = 127  # of one name
_DOTTED: Final = bytes(c if c in PLAIN else 0x2E for c in bytes(range(256)).lower())


class Name(msgspec.Struct, frozen=True, gc=False):
    """The name at one offset: its text, its length on the wire, and the number of its pointers.

    `end` is the offset behind its first run of labels and the root or pointer that ends the run. `led` is the `end` of
    the name at that pointer. It never lies behind the start of the run: by this rule of dnspython every name ends.
    """

    text: str
    length: int
    end: int
    pointers: int = 0
    led: int = 0


Known = dict[int, Name | None]  # by offset, within one message; None: the bytes there are no name


def read_name(wire: bytes, start: int, end: int, known: Known) -> Name | None:
    """Read the name at `start`, whose first run of labels ends by `end`, and store it in `known`.

    Return None for bytes that are no name: a label of an unknown type, a bad pointer, an end behind `end`, or more than
    255 bytes. Return None, too, if `known` is full.

    Most names end in a pointer to a name that was read before, which `known` then holds.

    Example: offset 12 holds `01 61 03 63 6f 6d 00`, "a.com", with length 7 and end 19. Offset 40 holds
    `03 77 77 77 c0 0c`. The labels end at 44, where the pointer to 12 begins; `known` has "a.com" there, and the result
    is Name("www.a.com", length 11, end 46, pointers 1, led 19). Anything unusual (an odd byte, a loop, a bad label) is
    left to `_walk`, which reads label by label.
    """
    if len(known) >= MAX_KNOWN:
        return None
    at, text = ordinary_labels(wire, start, end)
    last = wire[at] if start <= at < end else _RESERVED
    if last == 0 and at - start < MAX_NAME:
        name = known[start] = Name(text or ROOT, at + 1 - start, at + 1)
        return name
    if last >= POINTER_BYTE and at + 1 < end:
        target = (last << 8 | wire[at + 1]) - POINTER
        rest = known.get(target) or _read_rest(wire, target, known)
        if rest and rest.end <= start and rest.pointers < MAX_POINTERS and at - start + rest.length <= MAX_NAME:
            if rest.length > 1:
                text = f"{text}.{rest.text}" if text else rest.text
            name = known[start] = Name(text or ROOT, at - start + rest.length, at + 2, rest.pointers + 1, rest.end)
            return name
    found = _walk(wire, start, known)
    return found if found is not None and found.end <= end else None


def ordinary_labels(wire: bytes, start: int, end: int) -> tuple[int, str]:
    """Return the offset behind the ordinary labels at `start`, and their text; -1 if one is odd, or crosses `end`."""
    at, count = start, 0
    while at < end and count < _MAX_LABELS:
        length = wire[at]
        if length == 0 or length > _LONGEST:
            break
        at += length + 1
        count += 1
    if at > end:
        return -1, ""
    text = wire[start:at].translate(_DOTTED).decode()
    return (at, text[1:]) if text.count(".") == count else (-1, "")


def _read_rest(wire: bytes, target: int, known: Known) -> Name | None:
    """Return the name at the target of a pointer that `known` does not hold; usually the rest of an ordinary name."""
    if target not in known and len(known) < MAX_KNOWN:
        at, text = ordinary_labels(wire, target, len(wire))
        if target < at < len(wire) and wire[at] == 0 and at - target < MAX_NAME:
            name = known[target] = Name(text, at + 1 - target, at + 1)
            return name
    return _walk(wire, target, known)


def _walk(wire: bytes, start: int, known: Known) -> Name | None:
    """Read the name at `start` label by label, and store the name at each of its labels and pointers in `known`.

    The name at an offset is the same for every caller, so nothing is walked twice: the work is linear in the message.
    """
    steps: list[tuple[int, bytes]] = []  # an offset and its label; b"" is a pointer
    at = start
    while at not in known and len(known) < MAX_KNOWN:
        known[at] = None  # until the name has ended; it stays None in a loop
        first = wire[at] if at < len(wire) else _RESERVED
        if first == 0:
            known[at] = Name(ROOT, 1, at + 1)
        elif first < _RESERVED:
            steps.append((at, wire[at + 1 : at + 1 + first]))
            at += 1 + first
        elif first >= POINTER_BYTE and at + 1 < len(wire):
            steps.append((at, b""))
            at = (first << 8 | wire[at + 1]) - POINTER
    rest = known.get(at)
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
