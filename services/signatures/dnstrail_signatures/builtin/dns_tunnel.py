"""A tunnel through DNS: one program asks many long, distinct names below one registered domain.

Sees: tunnels of any tool and record type, while data flows upwards (iodine, dnscat2, dns2tcp, exfiltration scripts).
Cannot see: slow tunnels (fewer queries within the time), short names, data that flows downwards alone, queries through
encrypted DNS, and a source that captures answers alone.
False positives: reputation services that ask by long names (`known` leaves the usual ones out), content networks and
telemetry with generated names, and long names of services below an inner domain (that of Kubernetes is left out).
MITRE: T1071.004.
Settings: `queries` of at least `octets` octets below the registered domain, `distinct` of them distinct, within
`seconds`; reported again after `quiet` seconds; `known` domains, and the names below them, are left out; `subjects`
bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.dns.names import is_in_zone
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.registered_domain import octets_below, registered_domain
from dnstrail.signature import QUERY, EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, BurstGate, Bursts
from dnstrail_signatures.detection.setting_types import Count, Octets, Seconds, normal_names
from dnstrail_signatures.detection.stateful_signature import ReportsOnce


class DnsTunnelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate, and the domains that are left out."""

    queries: Count = 25
    distinct: Count = 15
    octets: Octets = 50
    seconds: Seconds = 300.0
    quiet: Seconds = 3600.0
    subjects: Count = 4096
    known: tuple[str, ...] = (
        "avast.com",
        "cluster.local",
        "e5.sk",
        "mcafee.com",
        "sophosxl.net",
        "spamhaus.org",
        "trendmicro.com",
    )

    def __post_init__(self) -> None:
        """Read domains in any spelling.

        Raises:
            ValueError: a domain is no domain name.
        """
        msgspec.structs.force_setattr(self, "known", normal_names("known", self.known))


class DnsTunnel(ReportsOnce):
    """Reports a program and a registered domain when the gate is reached."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-2",
        version="1",
        name="DNS tunnel by long names",
        event_name="DNS_TUNNEL",
        event_id=6002,
        description="A program asked many long, distinct names below one registered domain.",
        tags=("dns",),
        properties={
            "Severity": 3,
            "Category": "command-and-control",
            "Technique": "DNS",
            "id": "attack-pattern--1996eef1-ced3-4d7f-bf94-33298cabbf72",
            "external_id": "T1071.004",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, message=QUERY),)
    settings: ClassVar[DnsTunnelSettings] = DnsTunnelSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own = self.settings
        self._bursts = Bursts(BurstGate(own.queries, own.distinct, own.seconds), own.subjects)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the long names that were asked lately, and what was reported."""
        return self._bursts.table, *super().tables()

    def on_event(self, event: Event) -> None:
        """Add a long name to those of its program and domain."""
        question = event.asked
        if question is None or len(question.name) < self.settings.octets:
            return
        domain = registered_domain(question.name)
        if not domain or octets_below(question.name, domain) < self.settings.octets:
            return
        if any(is_in_zone(question.name, known) for known in self.settings.known):
            return
        subject = self.subject(event, domain)
        if self._bursts.reached(subject, question.name, event.timestamp) and self._once.first(subject, event.timestamp):
            self.report(event, domain=domain, queries=self.settings.queries, example=question.name)
