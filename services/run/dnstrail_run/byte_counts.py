"""The bytes of connections as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.filesize import decimal

from dnstrail_run.report import UNKNOWN, ReachedAddress

_KILO = 1000


class _Sum(NamedTuple):
    sent: str
    received: str
    unknown: int  # connections whose bytes are not in the sum


def total_of(connections: Iterable[ReachedAddress]) -> str:
    """Return the bytes of connections in words."""
    found = _sum(connections)
    if found is None:
        return f"bytes {UNKNOWN}"
    return f"{'at least ' if found.unknown else ''}{found.sent} sent, {found.received} received"


def cell_of(connections: Iterable[ReachedAddress]) -> str:
    """Return the bytes of connections for a cell of a table: sent / received."""
    found = _sum(connections)
    if found is None:
        return UNKNOWN
    return f"{found.sent} / {found.received}" + (f" + {found.unknown} {UNKNOWN}" if found.unknown else "")


def _sum(connections: Iterable[ReachedAddress]) -> _Sum | None:
    """Add up the known bytes; None if those of all connections are unknown."""
    some = [*connections]
    unknown = sum(one.bytes_unknown for one in some)
    counted = [one for one in some if one.bytes_sent is not None]
    if unknown and not counted:
        return None
    sent, received = sum(one.bytes_sent or 0 for one in counted), sum(one.bytes_received or 0 for one in counted)
    return _Sum(_text(sent), _text(received), unknown)


def _text(count: int) -> str:
    return f"{count} B" if count < _KILO else decimal(count)
