"""The first time that a program asks below a registered domain.

Sees: a known program that begins to talk to something else, such as a package with a changed install script. On one
host the containers of one image count as one.
Cannot see: programs without a path (captures from files), what clients ask a server here, and what another worker of
the group saw before.
False positives: updates, first runs, and browsers, which ask new domains all the time (`programs` leaves them out).
MITRE: T1195.002.
Settings: `enabled`, since it is off; nothing is reported within the first `learn` seconds; `programs` are the names of
programs that are left out; `subjects` bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.captured import SERVER
from dnstrail.container import user_of
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import QUERY, EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, FirstSeen
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import StatefulSignature


class DnsFirstDomainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time to learn, and the programs that are left out."""

    enabled: bool = False
    learn: Seconds = 604800.0
    programs: tuple[str, ...] = (
        "brave",
        "chrome",
        "chromium",
        "dig",
        "dnsmasq",
        "firefox",
        "firefox-bin",
        "named",
        "systemd-resolved",
        "thunderbird",
        "unbound",
    )
    subjects: Count = 100_000


class DnsFirstDomain(StatefulSignature):
    """Reports the first question of a program below a registered domain."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-13",
        version="1",
        name="First domain of a program",
        event_name="DNS_FIRST_DOMAIN",
        event_id=6013,
        description="A program asked below a registered domain for the first time.",
        tags=("dns",),
        properties={
            "Severity": 1,
            "Category": "initial-access",
            "Technique": "Compromise Software Supply Chain",
            "id": "attack-pattern--bd369cd9-abb8-41ce-b5bb-fff23ee86c00",
            "external_id": "T1195.002",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (EventSelector(name=NET_PACKET_DNS, message=QUERY),)
    settings: ClassVar[DnsFirstDomainSettings] = DnsFirstDomainSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        self._seen = FirstSeen(self.settings.subjects, self.settings.learn)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the programs and domains that were seen."""
        return (self._seen.table,)

    def on_event(self, event: Event) -> None:
        """Report the domain of a question if it is new for its program."""
        program = event.executable.path
        if not program or event.role == SERVER or program.rpartition("/")[2] in self.settings.programs:
            return
        question = event.asked
        domain = registered_domain(question.name) if question is not None else ""
        image = f"{user_of(event.container_id)}/{event.process.container_image}"  # users choose the names of theirs
        subject = event.host_name, image, program, domain
        if question is not None and domain and self._seen.is_new(subject, event.timestamp):
            self.report(event, program=program, domain=domain, name=question.name)
