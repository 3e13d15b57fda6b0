"""An address that one host knows by a domain by which no other host knows it.

Sees: a forged answer on one host that leads to a known address, and a host file or proxy that hides a name.
Cannot see: addresses that others know by several domains, as those of a CDN, and private addresses.
False positives: a company with several domains on one address.
MITRE: T1557.
Settings: at least `hosts` other hosts know the address, all by one registered domain; nothing is reported within the
first `learn` seconds of the store.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from dnstrail.dns.names import address_text
from dnstrail.errors import DataNotFound
from dnstrail.events import Event
from dnstrail.signature import SignatureMetadata
from dnstrail_fleet.private_address import is_private
from dnstrail_fleet.signatures.events import domain_of
from dnstrail_fleet.signatures.source import FleetSignature, Seconds


class FleetAddressDiffersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of other hosts."""

    hosts: Annotated[int, msgspec.Meta(ge=1)] = 3
    learn: Seconds = 604800.0


class FleetAddressDiffers(FleetSignature):
    """Reports a host whose domain of an address differs from that of all others."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-33",
        version="1",
        name="Address with another name than elsewhere",
        event_name="FLEET_ADDRESS_DIFFERS",
        event_id=6033,
        description="A host was answered an address that all other hosts know by one other domain.",
        tags=("dns", "fleet"),
        properties={
            "Severity": 1,
            "Category": "credential-access",
            "Technique": "Adversary-in-the-Middle",
            "id": "attack-pattern--035bb001-ab69-4a0b-9f6c-2de8b09e1b9d",
            "external_id": "T1557",
        },
    )
    settings: ClassVar[FleetAddressDiffersSettings] = FleetAddressDiffersSettings()

    def on_event(self, event: Event) -> None:
        """Report an address if all others agree on another domain."""
        address, domain = event.args["target"], domain_of(event.args["question"])
        if not domain or address_text(address) is None or is_private(address):
            return
        try:
            known: list[dict[str, Any]] = self._fleet.get(address)["hosts"]
        except DataNotFound:  # the store left its row out
            return
        others = {one["host"]: one["dns_queries"] for one in known if one["host"] != event.host_name}
        domains = {domain_of(name) for names in others.values() for name in names} - {""}
        if len(others) < self.settings.hosts or len(domains) != 1 or domain in domains:
            return
        claim = self._fleet.claim(self.metadata, f"{address} {domain}", event)
        if claim.is_first and event.args["first"] >= claim.since + self.settings.learn:
            self.report(event, address=address, domain=domain, elsewhere=domains.pop(), hosts=sorted(others))
