"""The DNS messages that detections read: each question and each answer once, at the end of its asker."""

from __future__ import annotations

from dnstrail.dns import is_response
from dnstrail.events import Event, Question

NXDOMAIN = 3
_RCODE = 0x0F


def query_of(event: Event) -> Question | None:
    """Return the question of a query at its asker; None for every other event."""
    if is_response(event.captured.payload) or not event.at_asker:
        return None
    return event.question


def response_of(event: Event) -> Question | None:
    """Return the question of a response at its asker; None for every other event."""
    if not is_response(event.captured.payload) or not event.at_asker:
        return None
    return event.question


def rcode_of(event: Event) -> int:
    """Return the rcode of a DNS message, without the extension of EDNS."""
    return event.captured.payload[3] & _RCODE
