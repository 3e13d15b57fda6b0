"""The DNS messages that detections read: each question and each answer once, at the end of its asker."""

from __future__ import annotations

from itertools import islice

from dnstrail.dns import is_response
from dnstrail.dns.rdata import AAAA, A
from dnstrail.events import Event, Question

NXDOMAIN = 3
MOST_ADDRESSES = 128  # of one answer, so that one answer costs little time, and evicts little
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


def addresses_of(event: Event) -> dict[str, int]:
    """Return the first addresses of an answer, each with its TTL."""
    records = (record for record in event.answers if record.type in (A, AAAA))
    return {str(record.target): record.ttl for record in islice(records, MOST_ADDRESSES)}


def rcode_of(event: Event) -> int:
    """Return the rcode of a DNS message, without the extension of EDNS."""
    return event.captured.payload[3] & _RCODE
