"""The marks of known tunnel tools and implants in the names that they ask.

Sees: iodine (its tests of the path), dns2tcp (its commands), dnscat2 without a domain, and Cobalt Strike's stager, by
their first queries.
Cannot see: a tool whose marks were changed, and other tools.
False positives: none known. A name is free text: anybody can ask a name with such a mark.
MITRE: T1572.
Settings: a program and domain are reported again after `quiet` seconds; `subjects` bounds the state.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import QUERY, EventSelector, SignatureMetadata
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import ReportsOnce

_MARKS: Final = re.compile(
    r"(?P<iodine>^z[a-z0-9]{3}aa-(?:aaahhh-drink-mal-ein|la-fl)|^z[a-z0-9]{3}aabbccddeeffgghhiijjkkllmmnnoo)"
    r"|(?P<dns2tcp>(?:^|\.)=(?:auth|connect|resource|kill)\.)"
    r"|(?P<dnscat2>^dnscat\.)"
    r"|(?P<cobalt_strike>^aaa\.stage\.|\.stage\.123456\.)"
)


class DnsTunnelToolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time between two findings of one program and domain."""

    quiet: Seconds = 3600.0
    subjects: Count = 4096


class DnsTunnelTool(ReportsOnce):
    """Reports a name that has the mark of a tool, once for a program and a domain."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-5",
        version="1",
        name="Mark of a tunnel tool",
        event_name="DNS_TUNNEL_TOOL",
        event_id=6005,
        description="A program asked a name that a known tunnel tool or implant makes.",
        tags=("dns",),
        properties={
            "Severity": 3,
            "Category": "command-and-control",
            "Technique": "Protocol Tunneling",
            "id": "attack-pattern--4fe28b27-b13c-453e-a386-c2ef362a573b",
            "external_id": "T1572",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, message=QUERY),)
    settings: ClassVar[DnsTunnelToolSettings] = DnsTunnelToolSettings()

    def on_event(self, event: Event) -> None:
        """Look for a mark in the name of a query."""
        question = event.asked
        if question is None or (found := _MARKS.search(question.name)) is None:
            return
        domain = registered_domain(question.name) or question.name
        if self._once.first(self.subject(event, domain), event.timestamp):
            self.report(event, domain=domain, tool=found.lastgroup, example=question.name)
