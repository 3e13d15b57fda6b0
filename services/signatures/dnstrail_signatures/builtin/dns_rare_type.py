"""A query of a type that no ordinary program uses: NULL and the private type of iodine.

Sees: tunnels that carry raw bytes in NULL or type 65399 records, from their first query.
Cannot see: tunnels over TXT, MX, CNAME or A.
False positives: researchers, and trust anchor telemetry of resolvers (`_ta-` names of type NULL are left out, with up
to four key tags below up to two labels).
MITRE: T1071.004.
Settings: `types` are the numbers of the types; a program and domain are reported again after `quiet` seconds;
`subjects` bounds the state.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import QUERY, EventSelector, SignatureMetadata
from dnstrail_signatures.detection.setting_types import Count, RecordType, Seconds
from dnstrail_signatures.detection.stateful_signature import ReportsOnce

_NULL = 10
# RFC 8145. Key tags and zone are free text: a tunnel that writes its names so has little room.
_is_telemetry: Final = re.compile(r"_ta(?:-[0-9a-f]{4}){1,4}(?:\.[^.]+){0,2}").fullmatch


class DnsRareTypeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The types that are reported."""

    types: tuple[RecordType, ...] = (_NULL, 65399)
    quiet: Seconds = 3600.0
    subjects: Count = 4096


class DnsRareType(ReportsOnce):
    """Reports a query of such a type, once for a program and a domain."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-3",
        version="1",
        name="Query of a rare type",
        event_name="DNS_RARE_TYPE",
        event_id=6003,
        description="A program asked for a record type that tunnels use and ordinary programs do not.",
        tags=("dns",),
        properties={
            "Severity": 2,
            "Category": "command-and-control",
            "Technique": "DNS",
            "id": "attack-pattern--1996eef1-ced3-4d7f-bf94-33298cabbf72",
            "external_id": "T1071.004",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, message=QUERY),)
    settings: ClassVar[DnsRareTypeSettings] = DnsRareTypeSettings()

    def on_event(self, event: Event) -> None:
        """Report a query of one of the types."""
        question = event.asked
        if question is None or question.type not in self.settings.types:
            return
        if question.type == _NULL and _is_telemetry(question.name):
            return
        domain = registered_domain(question.name) or question.name
        if self._once.first(self.subject(event, domain, question.type), event.timestamp):
            self.report(event, domain=domain, type=question.type, example=question.name)
