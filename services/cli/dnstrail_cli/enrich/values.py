"""Values of strangers' events as a lookup takes them: each function returns None for a value that is none."""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from dnstrail.dns.names import address_text
from dnstrail.process.clock import decimal_places, nanoseconds

_SECOND: Final = 1_000_000_000
_LAST: Final = 1 << 62  # ns
_LONGEST: Final = 64  # characters of a time or an address
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_CONTAINER: Final = re.compile(r"(?:[a-z-]+://)?([0-9a-f]{64})", re.ASCII)
_DIGITS: Final = re.compile(r"\d{1,10}", re.ASCII)


def address_of(value: object) -> str | None:
    """Return an address in canonical text."""
    return address_text(value) if isinstance(value, str) and len(value) <= _LONGEST else None


def port_of(value: object) -> int | None:
    """Return a port from a number, or from digits."""
    return _number(value, 1 << 16)


def process_of(value: object) -> int | None:
    """Return the id of a process."""
    return _number(value, 1 << 32)


def container_of(value: object) -> str | None:
    """Return the whole id of a container, also from `containerd://ID`: a part of an id does not identify it."""
    found = _CONTAINER.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def time_of(value: object) -> int | None:
    """Return a time in ns since the epoch, from RFC 3339 (without an offset: UTC) or a number.

    A number is in seconds, milliseconds, microseconds or nanoseconds, by its size. A time stands for all of its last
    digit: the result is the end of it. A time that no lookup takes, before 1970 or after 2116, is none.
    """
    found = _time_of_text(value) if isinstance(value, str) else _time_of_number(value)
    return found if found is not None and 0 < found < _LAST else None


def _time_of_number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LAST:
        return None
    places = decimal_places(value)
    if isinstance(value, float) and not places:
        return nanoseconds(value)
    grain: int = 10 ** (9 - places)
    return (math.floor(value) + 1) * grain - 1


def _time_of_text(text: str) -> int | None:
    found = _TIME.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    begin = _seconds(found[1], found[3] or "Z")
    if begin is None:
        return None
    digits = found[2] or ""
    grain: int = 10 ** (9 - len(digits))
    return begin * _SECOND + (int(digits or "0") + 1) * grain - 1


@lru_cache(maxsize=256)
def _seconds(text: str, offset: str) -> int | None:
    """Return the seconds of a date and time: events of one second come together."""
    try:
        return int(datetime.fromisoformat(text + offset.upper()).timestamp())
    except (ValueError, OverflowError):
        return None


def _number(value: object, end: int) -> int | None:
    """Return a number from 1 below `end`; 0 stands for an unknown one."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < end else None
