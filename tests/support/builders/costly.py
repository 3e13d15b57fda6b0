"""Messages that are small and cost a parser much work, and the count of that work."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from builders.dns_builders import CNAME, TXT, A, by_hand, record
from builders.hostile import P, pointer

SOA, OPT, APL, NSEC, SVCB, SOME = 6, 41, 42, 47, 64, 3000
_LONG = b"\x01a" * 120 + b"\x00"  # a name of 120 labels
_ODD = b"\x01\x00" * 120 + b"\x00"  # its labels need escapes
_IN_A = struct.pack("!2H", A, 1)
_BITMAP = b"".join(bytes([window, 32]) + b"\xff" * 32 for window in range(256))  # all 65,536 types


def _aliases() -> bytes:
    """Return a chain of 511 aliases, each a name of 120 labels by way of a pointer."""
    records, at, owner = [], 12 + len(_LONG) + 4, P
    for number in range(511):
        records.append(record(owner, CNAME, b"\x03%03x" % number + pointer(12 + 8)))
        owner, at = pointer(at + 12), at + len(records[-1])
    return by_hand(_LONG + _IN_A, *records)


def _repeated(one: bytes, number: int, question: bytes = _LONG) -> bytes:
    return by_hand(question + _IN_A, *[one] * number)


COSTLY = {
    "aliases of 120 labels": _aliases(),
    "records of two long names": _repeated(record(P, SOA, P + P + bytes(20)), 511),
    "names that need escapes": _repeated(record(P, CNAME, _ODD), 250, _ODD),
    "bitmaps of all types": _repeated(record(P, NSEC, b"\x00" + _BITMAP), 7),
    "bitmaps of some types": _repeated(record(P, NSEC, b"\x00" + _BITMAP[: 34 * 10]), 150),
    "empty strings": _repeated(record(P, TXT, bytes(65_000)), 1),
    "empty options": _repeated(record(b"\x00", OPT, bytes(65_000)), 1),
    "address prefixes": _repeated(record(P, APL, b"\x00\x01\x00\x00" * 2300), 7),
    "parameters": _repeated(
        record(P, SVCB, b"\x00\x01\x00" + b"".join(struct.pack("!2H", key, 0) for key in range(100, 120))), 500
    ),
    "types without a name": by_hand(
        _LONG + _IN_A, *[record(P, SOME + number, b"\x01", klass=7 + number) for number in range(511)]
    ),
}


def calls_in(run: Callable[[], Any]) -> int:
    """Return the number of calls of Python and C functions in a run: a measure of its work without a clock."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls
