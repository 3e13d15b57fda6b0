"""A stale address: a program connects to an address that its name has left, long after the answer expired.

Sees: programs that keep an address of the past, such as one of a service that failed over.
Cannot see: names that were asked once only, and addresses that another name also gave.
False positives: pools that answer with a part of their addresses in turn.
MITRE: T1584.001.
Settings: `enabled`, since it is off; the connection comes `seconds` after the last answer with the address expired, and
after a later answer without it; reported again after `quiet` seconds; `subjects` bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.dns.rdata import AAAA, A
from dnstrail.events import ANSWERED, NET_PACKET_DNS, NET_TCP_CONNECT, NET_UDP_CONNECT, Event
from dnstrail.signature import EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import ReportsOnce
from dnstrail_signatures.detection.subjects import party_of

_SECOND = 1_000_000_000


class StaleAddressSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time for which an expired address is tolerated."""

    enabled: bool = False
    seconds: Seconds = 900.0
    quiet: Seconds = 3600.0
    subjects: Count = 4096


class Given(msgspec.Struct, frozen=True):
    """An address that a name gave, and when the answer expires (ns)."""

    name: str
    expires: int


class StaleAddress(ReportsOnce):
    """Reports the connection to the address."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-15",
        version="1",
        name="Stale address",
        event_name="STALE_ADDRESS",
        event_id=6015,
        description="A program connected to an address that its name has left.",
        tags=("dns",),
        properties={
            "Severity": 0,
            "Category": "resource-development",
            "Technique": "Domains",
            "id": "attack-pattern--f9cc4d06-775f-4ee1-b401-4e2cc0da30ba",
            "external_id": "T1584.001",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_PACKET_DNS, types=(A, AAAA), outcomes=(ANSWERED,)),
        EventSelector(name=NET_TCP_CONNECT),
        EventSelector(name=NET_UDP_CONNECT),
    )
    settings: ClassVar[StaleAddressSettings] = StaleAddressSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own = self.settings
        self._answers: BoundedTable[tuple[str, str, int], frozenset[str]] = BoundedTable(own.subjects)
        self._given: BoundedTable[tuple[str, str], Given] = BoundedTable(own.subjects)
        self._left: BoundedTable[tuple[str, str], Given] = BoundedTable(own.subjects)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the last answers of names, who gave each address for longest, who left it, and what was reported."""
        return self._answers, self._given, self._left, *super().tables()

    def on_event(self, event: Event) -> None:
        """Note the addresses of an answer, or check a connection."""
        if event.event_name != NET_PACKET_DNS:
            self._on_connect(event)
        elif (question := event.answered) is not None:
            self._on_answer(event, question.name, question.type)

    def _on_answer(self, event: Event, name: str, kind: int) -> None:
        party, at = party_of(event), event.timestamp
        now = frozenset(event.addresses)
        if not now:
            return
        before = self._answers.get((party, name, kind)) or frozenset()
        self._answers.put((party, name, kind), now)
        for address in before - now:
            self._leave((party, address), name, at)
        for address, ttl in event.addresses.items():
            self._give((party, address), Given(name, at + ttl * _SECOND))

    def _give(self, subject: tuple[str, str], given: Given) -> None:
        self._left.pop(subject)
        longest = self._given.get(subject)
        if longest is None or given.expires >= longest.expires:
            self._given.put(subject, given)

    def _leave(self, subject: tuple[str, str], name: str, at: int) -> None:
        """Note that a name has left an address, unless another name still gives it."""
        longest = self._given.get(subject)
        if longest is not None and (longest.name == name or longest.expires <= at):
            self._left.put(subject, Given(name, longest.expires))

    def _on_connect(self, event: Event) -> None:
        subject, at = (party_of(event), str(event.arg("dst"))), event.timestamp
        left = self._left.get(subject)
        if left is None or at - left.expires < self.settings.seconds * _SECOND:
            return
        if self._once.first(self.subject(event, subject[1]), at):
            self.report(event, name=left.name, address=subject[1], expired=left.expires)
