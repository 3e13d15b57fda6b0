"""DNS rebinding: a name leads to a public address, then to an inner one, and the program connects to the inner one.

Sees: a public name that changes to an address of the host or of the site, followed by a connection there.
Cannot see: an inner address without a public one before it, and a connection by another program than the one that
asked.
False positives: names with both kinds of addresses on purpose (split horizon, VPN).
MITRE: T1189.
Settings: the inner answer comes within `seconds` of the public one, one of both has a TTL of at most `ttl` seconds, and
the connection comes within `seconds` of the inner one; `subjects` bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.dns.rdata import AAAA, A
from dnstrail.events import ANSWERED, NET_PACKET_DNS, NET_TCP_CONNECT, NET_UDP_CONNECT, Event
from dnstrail.signature import EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, Once
from dnstrail_signatures.detection.setting_types import Count, Seconds, Ttl
from dnstrail_signatures.detection.stateful_signature import StatefulSignature
from dnstrail_signatures.detection.subjects import is_inner, party_of

_SECOND = 1_000_000_000


class DnsRebindingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times of the three steps."""

    seconds: Seconds = 300.0
    ttl: Ttl = 60
    subjects: Count = 4096


class Public(msgspec.Struct, frozen=True):
    """The last public address of a name, its TTL (s), and the time of its answer."""

    address: str
    ttl: int
    at: int


class Rebound(msgspec.Struct, frozen=True):
    """A name that led to an inner address after a public one, and the time of the later answer."""

    name: str
    public: str
    at: int


class DnsRebinding(StatefulSignature):
    """Reports the connection to the inner address."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-6",
        version="1",
        name="DNS rebinding",
        event_name="DNS_REBINDING",
        event_id=6006,
        description="A name changed from a public to an inner address, and the program connected there.",
        tags=("dns",),
        properties={
            "Severity": 3,
            "Category": "initial-access",
            "Technique": "Drive-by Compromise",
            "id": "attack-pattern--d742a578-d70e-4d0e-96a6-02a9c30204e6",
            "external_id": "T1189",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_PACKET_DNS, types=(A, AAAA), outcomes=(ANSWERED,)),
        EventSelector(name=NET_TCP_CONNECT),
        EventSelector(name=NET_UDP_CONNECT),
    )
    settings: ClassVar[DnsRebindingSettings] = DnsRebindingSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        self._public: BoundedTable[tuple[str, str], Public] = BoundedTable(self.settings.subjects)
        self._rebound: BoundedTable[tuple[str, str], Rebound] = BoundedTable(self.settings.subjects)
        self._once = Once(self.settings.subjects, self.settings.seconds)
        self._nanoseconds = round(self.settings.seconds * _SECOND)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the public addresses of names, the inner ones that came after them, and what was reported."""
        return self._public, self._rebound, self._once.table

    def on_event(self, event: Event) -> None:
        """Note the addresses of an answer, or check a connection."""
        if event.event_name == NET_PACKET_DNS:
            self._on_answer(event)
        else:
            self._on_connect(event)

    def _on_answer(self, event: Event) -> None:
        question = event.answered
        if question is None:
            return
        addresses = event.addresses
        if not addresses:
            return
        party, name, at = party_of(event), question.name, event.timestamp
        outer = next((address for address in addresses if not is_inner(address)), None)
        if outer is not None:
            self._public.put((party, name), Public(outer, addresses[outer], at))
        public = self._public.get((party, name))
        if public is None or at - public.at > self._nanoseconds:
            return
        for address, ttl in addresses.items():
            if is_inner(address) and min(public.ttl, ttl) <= self.settings.ttl:
                self._rebound.put((party, address), Rebound(name, public.address, at))

    def _on_connect(self, event: Event) -> None:
        address, at = str(event.arg("dst")), event.timestamp
        rebound = self._rebound.get((party_of(event), address))
        if rebound is None or not 0 <= at - rebound.at <= self._nanoseconds:
            return
        if self._once.first(self.subject(event, address, rebound.at), at):
            self.report(event, name=rebound.name, public_address=rebound.public, inner_address=address)
