"""A name that one host alone has known for a while, and to which this host connects.

Sees: command and control of one host, by a domain that is no other host's business.
Cannot see: the first day of such a name, connections whose process or name is unknown, and names without a registered
domain.
False positives: services that one host alone uses, and names that contain the id of a host.
MITRE: T1071.
Settings: no other host asked for the name within `seconds` of the first question, nor later; nothing is reported of
names of the first `learn` seconds of the store. A connection to a private address is left out.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dnstrail.events import Event
from dnstrail.signature import EventSelector, SignatureMetadata
from dnstrail_fleet.private_address import is_private
from dnstrail_fleet.signatures.events import DNS_RELATION_USED, domain_of
from dnstrail_fleet.signatures.source import FleetSignature, Seconds


class FleetNameAloneSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time for which one host alone knows the name."""

    seconds: Seconds = 86400.0
    learn: Seconds = 604800.0


class FleetNameAlone(FleetSignature):
    """Reports a name once at most, on the first connection of a day."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-34",
        version="1",
        name="Connection to a name of one host alone",
        event_name="FLEET_NAME_ALONE",
        event_id=6034,
        description="A host connected to a name that no other host of the fleet asked for.",
        tags=("dns", "fleet"),
        properties={
            "Severity": 2,
            "Category": "command-and-control",
            "Technique": "Application Layer Protocol",
            "id": "attack-pattern--355be19c-ffc9-46d5-8d50-d6a036c675b6",
            "external_id": "T1071",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=DNS_RELATION_USED),)
    settings: ClassVar[FleetNameAloneSettings] = FleetNameAloneSettings()

    def on_event(self, event: Event) -> None:
        """Report a name if no other host knows it, and the host has known it for long enough."""
        name, address, used = (event.args[key] for key in ("question", "target", "used"))
        if not domain_of(name) or is_private(address):
            return
        known = self._fleet.alone(name)
        if known.host != event.host_name or known.first < known.since + self.settings.learn:
            return
        if used >= known.first + self.settings.seconds and self._fleet.claim(self.metadata, name, event).is_first:
            self.report(event, name=name, address=address, since=known.first, used=used)
