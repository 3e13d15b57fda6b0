"""Domain names on the wire: labels and compression pointers (RFC 1035, sections 3.1 and 4.1.4)."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.errors import BadMessage
from dnstrail.names import ROOT, label_text

MAX_NAME = 255  # bytes on the wire, the root's among them
MAX_POINTERS = 16  # in one name, as dnspython has it
_POINTER = 0xC0


class Read(NamedTuple):
    """What was read at one offset: text, length on the wire, end of its first run of labels, pointers followed."""

    text: str
    length: int
    end: int
    pointers: int


Known = dict[int, Read]  # by offset, within one message
_END = Read(ROOT, 1, 0, -1)


def read_name(wire: bytes, start: int, end: int, known: Known) -> tuple[str, int]:
    """Read the name at `start`; give its text and the offset behind it.

    A pointer leads back, to a run of labels that ends before the run it ends (dnspython's rule): every name ends,
    within bounded time. `known` remembers what was read, since most names refer to one before.

    Raises:
        BadMessage: a label of no known type, a bad pointer, or a name past `end` or 255 bytes.
    """
    if start + 1 < end and wire[start] >= _POINTER:  # a whole name by pointer: most owners
        found = known.get((wire[start] & 0x3F) << 8 | wire[start + 1])
        if found is not None and found.end <= start and found.pointers < MAX_POINTERS:
            return found.text, start + 2
    labels, after, target = _read_run(wire, start, end)
    rest = _END if target < 0 else _follow(wire, start, target, known)
    read = known[start] = _join(labels, after, rest)
    return read.text, after


def _read_run(wire: bytes, at: int, end: int) -> tuple[list[bytes], int, int]:
    """The labels from `at` on, the offset behind the root or the pointer that ends them, the pointer's target or -1."""
    labels: list[bytes] = []
    limit = min(end, at + MAX_NAME + 1)
    while at < limit:
        length = wire[at]
        at += 1
        if length == 0:
            return labels, at, -1
        if length >= _POINTER:
            if at >= end:
                break
            return labels, at + 1, (length & 0x3F) << 8 | wire[at]
        if length > 63:  # noqa: PLR2004 - RFC 1035, 4.1.4: the other two label types are reserved
            raise BadMessage("a label of unknown type")
        labels.append(wire[at : at + length])
        at += length
    raise BadMessage("a name runs past its end")


def _follow(wire: bytes, start: int, target: int, known: Known) -> Read:
    """What a pointer at the end of the run from `start` leads to."""
    trail: list[tuple[int, list[bytes], int]] = []
    rest, length = _END, _END.length
    while target >= 0:
        found = known.get(target)
        if found is not None and found.end <= start:
            rest = found
            break
        if target >= start or len(trail) >= MAX_POINTERS:
            raise BadMessage("a compression pointer that leads forward, or too many")
        labels, after, following = _read_run(wire, target, start)
        length += sum(map(len, labels)) + len(labels)
        if length > MAX_NAME:  # here, lest every name that leads to a long one walk all of it
            raise BadMessage("a name longer than 255 bytes")
        trail.append((target, labels, after))
        start, target = target, following
    for offset, labels, after in reversed(trail):
        rest = known[offset] = _join(labels, after, rest)
    return rest


def _join(labels: list[bytes], end: int, rest: Read) -> Read:
    length = rest.length + sum(map(len, labels)) + len(labels)
    if length > MAX_NAME or rest.pointers >= MAX_POINTERS:
        raise BadMessage("a name longer than 255 bytes, or with too many pointers")
    text = ".".join(map(label_text, labels))
    if rest.text != ROOT:
        text = f"{text}.{rest.text}" if text else rest.text
    return Read(text or ROOT, length, end, rest.pointers + 1)
