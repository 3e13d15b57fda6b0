"""A foreign resolver: an answer from a server that the program is not configured to ask.

Sees: programs that bring a resolver of their own, and changed settings, by live eBPF capture (`foreign`).
Cannot see: captures from files, and resolvers behind encrypted DNS (ENCRYPTED_DNS sees some of those).
False positives: `dig @server`, VPN clients, programs with a fixed resolver, and resolvers that ask authorities.
MITRE: T1071.004.
Settings: `enabled`, since it is off; a program and server are reported again after `quiet` seconds; `known` servers are
left out; `subjects` bounds the state.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.signature import RESPONSE, EventSelector, SignatureMetadata
from dnstrail_signatures.detection.setting_types import Count, Seconds, normal_addresses
from dnstrail_signatures.detection.stateful_signature import ReportsOnce


class DnsForeignResolverSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The servers that are left out."""

    enabled: bool = False
    known: tuple[str, ...] = ()
    quiet: Seconds = 86400.0
    subjects: Count = 4096

    def __post_init__(self) -> None:
        """Read servers in any spelling.

        Raises:
            ValueError: a server is no address.
        """
        msgspec.structs.force_setattr(self, "known", normal_addresses("known", self.known))


class DnsForeignResolver(ReportsOnce):
    """Reports a program and a server, once in a time."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-10",
        version="1",
        name="Foreign resolver",
        event_name="DNS_FOREIGN_RESOLVER",
        event_id=6010,
        description="A program was answered by a server that it is not configured to ask.",
        tags=("dns",),
        properties={
            "Severity": 1,
            "Category": "command-and-control",
            "Technique": "DNS",
            "id": "attack-pattern--1996eef1-ced3-4d7f-bf94-33298cabbf72",
            "external_id": "T1071.004",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, message=RESPONSE),)
    settings: ClassVar[DnsForeignResolverSettings] = DnsForeignResolverSettings()

    def on_event(self, event: Event) -> None:
        """Report a foreign answer."""
        if not event.arg("foreign") or (question := event.answered) is None:
            return
        server = str(event.arg("src"))
        if server not in self.settings.known and self._once.first(self.subject(event, server), event.timestamp):
            self.report(event, server=server, example=question.name)
