"""A sweep by reverse names: one program asks for the names of many addresses in a short time.

Sees: scanners that list hosts by their reverse names (`nmap -sL`).
Cannot see: slow sweeps, and sweeps through encrypted DNS.
False positives: monitoring, log analysis, mail servers, and tools that print names of addresses (`netstat`, `tcpdump`).
MITRE: T1018.
Settings: `names` distinct reverse names of addresses within `seconds`; reported again after `quiet` seconds; `subjects`
bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.dns.names import reverse_address
from dnstrail.dns.rdata import PTR
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.signature import QUERY, EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, BurstGate, Bursts
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import ReportsOnce


class DnsReverseSweepSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate for reverse names."""

    names: Count = 30
    seconds: Seconds = 10.0
    quiet: Seconds = 3600.0
    subjects: Count = 1024


class DnsReverseSweep(ReportsOnce):
    """Reports a program when the gate is reached."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-9",
        version="1",
        name="Sweep by reverse names",
        event_name="DNS_REVERSE_SWEEP",
        event_id=6009,
        description="A program asked for the names of many addresses in a short time.",
        tags=("dns",),
        properties={
            "Severity": 1,
            "Category": "discovery",
            "Technique": "Remote System Discovery",
            "id": "attack-pattern--e358d692-23c0-4a31-9eb6-ecc13a8d7735",
            "external_id": "T1018",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_PACKET_DNS, message=QUERY, types=(PTR,)),
    )
    settings: ClassVar[DnsReverseSweepSettings] = DnsReverseSweepSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own = self.settings
        self._bursts = Bursts(BurstGate(own.names, own.names, own.seconds), own.subjects)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the reverse names that were asked lately, and what was reported."""
        return self._bursts.table, *super().tables()

    def on_event(self, event: Event) -> None:
        """Add a reverse name to those of its program."""
        question = event.asked
        if question is None or reverse_address(question.name) is None:
            return
        subject, at = self.subject(event), event.timestamp
        if self._bursts.reached(subject, question.name, at) and self._once.first(subject, at):
            self.report(event, names=self.settings.names, example=question.name)
