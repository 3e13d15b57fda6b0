"""A registered domain that no host of the fleet asked for before.

Sees: the first answer that any host receives below a registered domain, and which host and program asked.
Cannot see: new names below a known domain, and names without a registered domain.
False positives: everything that is new and harmless. It helps to rank other findings, and to search.
MITRE: T1583.001.
Settings: nothing is reported within the first `learn` seconds of the store.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dnstrail.events import Event
from dnstrail.signature import SignatureMetadata
from dnstrail_fleet.signatures.events import domain_of
from dnstrail_fleet.signatures.source import FleetSignature, Seconds


class FleetNewDomainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time to learn."""

    learn: Seconds = 604800.0


class FleetNewDomain(FleetSignature):
    """Reports the first relation below a registered domain."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-31",
        version="1",
        name="Domain new to the fleet",
        event_name="FLEET_NEW_DOMAIN",
        event_id=6031,
        description="A host asked below a registered domain that no host asked for before.",
        tags=("dns", "fleet"),
        properties={
            "Severity": 0,
            "Category": "resource-development",
            "Technique": "Domains",
            "id": "attack-pattern--40f5caa0-4cb7-4117-89fc-d421bb493df3",
            "external_id": "T1583.001",
        },
    )
    settings: ClassVar[FleetNewDomainSettings] = FleetNewDomainSettings()

    def on_event(self, event: Event) -> None:
        """Report a domain if this event is the first one that claims it."""
        name = event.args["question"]
        if not (domain := domain_of(name)):
            return
        claim = self._fleet.claim(self.metadata, domain, event)
        if claim.is_first and event.args["first"] >= claim.since + self.settings.learn:
            self.report(event, domain=domain, name=name)
