"""Exfiltration in numbered chunks: names that begin with a number and a payload (`17-mzxw6ytboi2dcnbs.a.example`).

Sees: scripts that send a file as numbered labels below one registered domain.
Cannot see: chunks without numbers (DNS_TUNNEL sees the long ones), and slow senders.
False positives: rare; generated host names that begin with a number and a dash.
MITRE: T1048.
Settings: `queries` distinct names with `octets` octets of payload, within `seconds`; reported again after `quiet`
seconds; `subjects` bounds the state.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import msgspec

from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import QUERY, EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, BurstGate, Bursts
from dnstrail_signatures.detection.setting_types import Count, Octets, Seconds
from dnstrail_signatures.detection.stateful_signature import ReportsOnce

_CHUNK: Final = re.compile(r"[0-9]{1,9}-([a-z0-9+/=_]+)\.")


class DnsChunksSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate for numbered chunks."""

    queries: Count = 30
    octets: Octets = 15
    seconds: Seconds = 300.0
    quiet: Seconds = 3600.0
    subjects: Count = 4096


class DnsChunks(ReportsOnce):
    """Reports a program and a registered domain when the gate is reached."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-8",
        version="1",
        name="Numbered chunks in names",
        event_name="DNS_CHUNKS",
        event_id=6008,
        description="A program asked many numbered payloads below one registered domain.",
        tags=("dns",),
        properties={
            "Severity": 3,
            "Category": "exfiltration",
            "Technique": "Exfiltration Over Alternative Protocol",
            "id": "attack-pattern--a19e86f8-1c0a-4fea-8407-23b73d615776",
            "external_id": "T1048",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, message=QUERY),)
    settings: ClassVar[DnsChunksSettings] = DnsChunksSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own = self.settings
        self._bursts = Bursts(BurstGate(own.queries, own.queries, own.seconds), own.subjects)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the chunks that were asked lately, and what was reported."""
        return self._bursts.table, *super().tables()

    def on_event(self, event: Event) -> None:
        """Add a chunk to those of its program and domain."""
        question = event.asked
        if question is None or (found := _CHUNK.match(question.name)) is None:
            return
        if len(found.group(1)) < self.settings.octets:
            return
        domain = registered_domain(question.name)
        subject, at = self.subject(event, domain), event.timestamp
        if self._bursts.reached(subject, question.name, at) and self._once.first(subject, at):
            self.report(event, domain=domain, queries=self.settings.queries, example=question.name)
