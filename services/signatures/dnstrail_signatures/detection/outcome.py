"""The outcome of a question, as its response states it."""

from __future__ import annotations

from typing import Final

from dnstrail.dns import outcome
from dnstrail.dns.rdata import AAAA, CNAME, A
from dnstrail.events import Event, Question

ANSWERED: Final = "answered"
NXDOMAIN: Final = "NXDOMAIN"
TRUNCATED: Final = "truncated"
_RCODE, _TC = 0x0F, 0x02  # RFC 1035, section 4.1.1


def outcome_of(event: Event, question: Question) -> str:
    """Return the outcome of a response: `answered` if it has data of the type of its question."""
    header, kinds = event.captured.payload[:12], [record.type for record in event.answers]
    rcode, count = header[3] & _RCODE, int.from_bytes(header[6:8])
    if rcode:
        return outcome.outcome_of(rcode)
    if question.type in kinds or (question.type not in (A, AAAA) and count > kinds.count(CNAME)):
        return ANSWERED
    return TRUNCATED if header[2] & _TC else outcome.outcome_of(rcode)
