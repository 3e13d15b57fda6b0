"""The addresses in a line for people: a line is never cut within one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dnstrail.dns.names import address_text

_LIKE = re.compile(r"\[?([0-9A-Fa-f.:]{2,})(?:\]:\d+)?")


def ends_of_addresses(line: str) -> Iterator[tuple[int, int]]:
    """Yield the place at which each address of a line begins, and at which it ends with its port."""
    for like in _LIKE.finditer(line):
        text = like[1].strip(".")
        if address_text(text) or address_text(text.rpartition(":")[0]):
            yield like.span()


def has_address(text: str) -> bool:
    """Return whether a text contains an address."""
    return next(ends_of_addresses(text), None) is not None
