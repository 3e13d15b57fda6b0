"""A newly observed registered domain: answered now, and never before as far as this worker knows.

Sees: the first answer below a registered domain, after a time to learn.
Cannot see: a domain that another worker of the group saw before (run it with `--group none`), and new names below a
known domain.
False positives: everything that is new and harmless. It helps to rank other findings, and to search.
MITRE: T1583.001.
Settings: `enabled`, since it is off; nothing is reported within the first `learn` seconds, unless `file` holds the
domains of an earlier run; the domains are written there at the end; `domains` bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.events import ANSWERED, NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import EventSelector, Signature, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, FirstSeen
from dnstrail_signatures.detection.known_file import KnownFile
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import StatefulSignature


class DnsNewDomainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time to learn, and the file that outlives a run."""

    enabled: bool = False
    learn: Seconds = 86400.0
    file: str = ""
    domains: Count = 100_000


class DnsNewDomain(StatefulSignature):
    """Reports the first answer below a registered domain."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-12",
        version="1",
        name="Newly observed domain",
        event_name="DNS_NEW_DOMAIN",
        event_id=6012,
        description="A registered domain was answered for the first time.",
        tags=("dns",),
        properties={
            "Severity": 0,
            "Category": "resource-development",
            "Technique": "Domains",
            "id": "attack-pattern--40f5caa0-4cb7-4117-89fc-d421bb493df3",
            "external_id": "T1583.001",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, outcomes=(ANSWERED,)),)
    settings: ClassVar[DnsNewDomainSettings] = DnsNewDomainSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Read the domains of an earlier run.

        Raises:
            SettingsError: The file cannot be read.
        """
        super().init(ctx)
        self._file = KnownFile(self.settings.file, "known domains")
        known = self._file.read(lambda data: data.decode().split())
        self.seen = FirstSeen(self.settings.domains, 0.0 if known else self.settings.learn, known)

    def take_over(self, former: Signature) -> None:
        """Go on with all domains that were seen: the file has those of the run before alone."""
        if isinstance(former, DnsNewDomain):
            self.seen.take_over(former.seen)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the domains that were seen."""
        return (self.seen.table,)

    def on_event(self, event: Event) -> None:
        """Report the domain of an answer if it is new."""
        question = event.answered
        if question is None or not event.answers:
            return
        domain = registered_domain(question.name)
        if domain and self.seen.is_new(domain, event.timestamp):
            self.report(event, domain=domain, name=question.name)

    def close(self) -> None:
        """Write the domains for the next run."""
        self._file.write(str(domain).encode() for domain in self.seen.table)
