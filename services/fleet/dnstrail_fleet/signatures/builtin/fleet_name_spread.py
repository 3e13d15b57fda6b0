"""A new name that several hosts ask for within a short time.

Sees: malware that spreads, and a command that runs on many hosts at once.
Cannot see: names that differ on each host, and names without a registered domain.
False positives: new names of software that updates itself, and of your own services.
MITRE: T1071.004.
Settings: `hosts` of them within `seconds` of the first one; nothing is reported within the first `learn` seconds of the
store.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from dnstrail.events import Event
from dnstrail.signature import SignatureMetadata
from dnstrail_fleet.lookups.requests import MOST_FOUND
from dnstrail_fleet.row import DAY
from dnstrail_fleet.signatures.events import domain_of
from dnstrail_fleet.signatures.source import FleetSignature, Seconds


class FleetNameSpreadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of hosts, and the time."""

    hosts: Annotated[int, msgspec.Meta(ge=2, le=MOST_FOUND)] = 5
    seconds: Annotated[float, msgspec.Meta(gt=0, le=DAY)] = 3600.0
    learn: Seconds = 604800.0


class FleetNameSpread(FleetSignature):
    """Reports a name once enough hosts asked for it."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-32",
        version="1",
        name="New name on several hosts",
        event_name="FLEET_NAME_SPREAD",
        event_id=6032,
        description="Several hosts asked for a new name within a short time.",
        tags=("dns", "fleet"),
        properties={
            "Severity": 2,
            "Category": "command-and-control",
            "Technique": "DNS",
            "id": "attack-pattern--1996eef1-ced3-4d7f-bf94-33298cabbf72",
            "external_id": "T1071.004",
        },
    )
    settings: ClassVar[FleetNameSpreadSettings] = FleetNameSpreadSettings()

    def on_event(self, event: Event) -> None:
        """Report a name if its first hosts are close to each other, and no event reported it."""
        name, own = event.args["question"], self.settings
        if not domain_of(name):
            return
        hosts, since = self._fleet.first_hosts(name, own.hosts)
        if len(hosts) < own.hosts or hosts[-1][1] - hosts[0][1] > own.seconds or hosts[0][1] < since + own.learn:
            return
        if self._fleet.claim(self.metadata, name, event).is_first:
            self.report(event, name=name, hosts=[host for host, _ in hosts], seconds=hosts[-1][1] - hosts[0][1])
