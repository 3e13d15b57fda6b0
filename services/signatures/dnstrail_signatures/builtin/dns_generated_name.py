"""Generated names: a burst of names that do not exist, then a like one that resolves and that the program connects to.

Sees: malware that tries generated domains until one of them answers.
Cannot see: generators that meet their domain within few tries, and names below one registered domain. A name counts if
a zone above its registered domain denies it, or no zone is named and this domain, or `www` below it, was asked.
False positives: a program that checks many domains of a list, of which some are gone.
MITRE: T1568.002.
Settings: `names` distinct registered domains that do not exist, within `seconds`, of one program; then a domain of a
like length that resolves, and a connection to its address, within `seconds`; reported again after `quiet` seconds;
`subjects` bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.dns.header import Header
from dnstrail.dns.message import denying_zone
from dnstrail.dns.names import ROOT
from dnstrail.dns.rdata import AAAA, A
from dnstrail.events import ANSWERED, NET_PACKET_DNS, NET_TCP_CONNECT, NET_UDP_CONNECT, Event
from dnstrail.registered_domain import registered_domain
from dnstrail.signature import NXDOMAIN, RCODE, EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable, Once
from dnstrail_signatures.detection.setting_types import Count, Seconds
from dnstrail_signatures.detection.stateful_signature import StatefulSignature
from dnstrail_signatures.detection.subjects import party_of

_SECOND = 1_000_000_000
_NXDOMAIN = 3  # a response code
_SHORTEST = 6  # characters of a label that can be a generated one


class DnsGeneratedNameSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate for names that do not exist."""

    names: Count = 10
    seconds: Seconds = 300.0
    quiet: Seconds = 3600.0
    subjects: Count = 4096


class Resolved(msgspec.Struct, frozen=True):
    """A domain that exists, the like ones before it that do not, and the time of its answer."""

    domain: str
    missing: tuple[str, ...]
    at: int


class DnsGeneratedName(StatefulSignature):
    """Reports the connection to the domain that exists."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-7",
        version="1",
        name="Generated domain found",
        event_name="DNS_GENERATED_NAME",
        event_id=6007,
        description="After many domains that do not exist, a program connected to a like one that does.",
        tags=("dns",),
        properties={
            "Severity": 3,
            "Category": "command-and-control",
            "Technique": "Domain Generation Algorithms",
            "id": "attack-pattern--118f61a5-eb3e-4fb6-931f-2096647f4ecd",
            "external_id": "T1568.002",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_PACKET_DNS, types=(A, AAAA), outcomes=(ANSWERED, NXDOMAIN)),
        EventSelector(name=NET_TCP_CONNECT),
        EventSelector(name=NET_UDP_CONNECT),
    )
    settings: ClassVar[DnsGeneratedNameSettings] = DnsGeneratedNameSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        most = self.settings.subjects
        self._missing: BoundedTable[str, BoundedTable[str, int]] = BoundedTable(most)
        self._resolved: BoundedTable[tuple[str, str], Resolved] = BoundedTable(most)
        self._once = Once(most, self.settings.quiet)
        self._nanoseconds = round(self.settings.seconds * _SECOND)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the domains that do not exist by program, the addresses of those that do, and what was reported."""
        return self._missing, self._resolved, self._once.table

    def on_event(self, event: Event) -> None:
        """Note the outcome of a question, or check a connection."""
        if event.event_name != NET_PACKET_DNS:
            self._on_connect(event)
        elif (question := event.answered) is not None and event.header is not None:
            self._on_answer(event, event.header, question.name)

    def _on_answer(self, event: Event, header: Header, name: str) -> None:
        party, domain = party_of(event), registered_domain(name)
        if header.flags & RCODE != _NXDOMAIN:
            if domain:
                self._on_found(event, party, domain)
        elif len(domain.partition(".")[0]) >= _SHORTEST and _is_missing(name, domain, header, event.captured.payload):
            missing = self._missing.of(party, lambda: BoundedTable(self.settings.names))
            missing.put(domain, event.timestamp)

    def _on_found(self, event: Event, party: str, domain: str) -> None:
        """Note the addresses of a domain that is like the last ones that do not exist."""
        missing = self._missing.get(party)
        if missing is None or len(missing) < self.settings.names:
            return
        if event.timestamp - next(missing.values()) > self._nanoseconds:
            return
        names = tuple(missing)
        if domain in names or not _alike(domain, names):
            return
        for address in event.addresses:
            self._resolved.put((party, address), Resolved(domain, names, event.timestamp))

    def _on_connect(self, event: Event) -> None:
        party, address = party_of(event), str(event.arg("dst"))
        found = self._resolved.get((party, address))
        if found is None or not 0 <= event.timestamp - found.at <= self._nanoseconds:
            return
        if self._once.first(self.subject(event, found.domain), event.timestamp):
            self.report(event, domain=found.domain, address=address, missing=list(found.missing))


def _is_missing(name: str, domain: str, header: Header, payload: bytes) -> bool:
    """Return whether a response denies the registered domain of a name, and not only a name below it.

    Block lists of mail servers and ad blockers deny many names below domains that exist.
    """
    if header.answer_count:  # an alias, which exists
        return False
    zone = denying_zone(payload, header.asked.end)
    if zone is None:
        return name in {domain, f"www.{domain}"}
    return zone == ROOT or domain.endswith(f".{zone}")


def _alike(domain: str, others: tuple[str, ...]) -> bool:
    """Return whether the first label of a domain is about as long as those of others, and has no other characters.

    Its suffix is one of theirs, unless most of them differ: some generators change it for each domain.
    """
    label, _, suffix = domain.partition(".")
    labels = [other.partition(".")[0] for other in others]
    lengths, suffixes = [*map(len, labels)], {other.partition(".")[2] for other in others}
    return (
        (suffix in suffixes or len(suffixes) > len(others) // 2)
        and min(lengths) - 1 <= len(label) <= max(lengths) + 1
        and ("-" in label) <= any("-" in other for other in labels)
    )
