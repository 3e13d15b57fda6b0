"""A connection without DNS: to a public address that no answer gave, as far as the cache knows.

Sees: programs with built-in addresses, and scanners.
Cannot see: connections before the capture has run for a while (`warm_up`), or while events are lost (`coverage`).
False positives: encrypted DNS, peer-to-peer programs, names in /etc/hosts, and addresses that a program keeps for long.
MITRE: T1095.
Settings: `enabled`, since it is off; nothing is reported within the first `warm_up` seconds of a probe, below
`coverage`, or to `ports`; a program and address are reported again after `quiet` seconds; `subjects` bounds the state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from dnstrail.datasource import DataSource
from dnstrail.errors import DataNotFound, DataSourceMissing
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CONNECT, Event
from dnstrail.signature import EventSelector, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.bounded_state import BoundedTable
from dnstrail_signatures.detection.setting_types import Count, Port, Seconds, Share
from dnstrail_signatures.detection.stateful_signature import ReportsOnce
from dnstrail_signatures.detection.subjects import is_public

_SECOND = 1_000_000_000


class ConnectionWithoutDnsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time to warm up, and what is left out."""

    enabled: bool = False
    warm_up: Seconds = 1800.0
    coverage: Share = 0.999
    ports: tuple[Port, ...] = (53, 123, 853)
    quiet: Seconds = 3600.0
    subjects: Count = 4096


class ConnectionWithoutDns(ReportsOnce):
    """Reports a program and an address, once in a time."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNSTRAIL-14",
        version="1",
        name="Connection without DNS",
        event_name="CONNECTION_WITHOUT_DNS",
        event_id=6014,
        description="A program connected to a public address that no answer gave.",
        tags=("dns",),
        properties={
            "Severity": 0,
            "Category": "command-and-control",
            "Technique": "Non-Application Layer Protocol",
            "id": "attack-pattern--c21d5a77-d422-4a69-acd7-2c53c1faa34b",
            "external_id": "T1095",
        },
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(name=NET_TCP_CONNECT),
        EventSelector(name=NET_PACKET_DNS),
    )
    settings: ClassVar[ConnectionWithoutDnsSettings] = ConnectionWithoutDnsSettings()

    def init(self, ctx: SignatureContext) -> None:
        """Find the data source.

        Raises:
            DataSourceMissing: This run has no data source tracee/dns.
        """
        super().init(ctx)
        dns = ctx.get_data_source("tracee", "dns")
        if dns is None:
            raise DataSourceMissing("tracee", "dns")
        self.dns: DataSource = dns
        self._begun: BoundedTable[str, int] = BoundedTable(ctx.probes)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return the first times of probes, and what was reported."""
        return self._begun, *super().tables()

    def on_event(self, event: Event) -> None:
        """Note when a probe began, and check a connection."""
        start = event.mark[0] if event.mark else ""
        begun = self._begun.of(start, lambda: event.timestamp)
        if event.event_name != NET_TCP_CONNECT or event.timestamp - begun < self.settings.warm_up * _SECOND:
            return
        address, port = str(event.arg("dst")), event.arg("dst_port")
        if event.arg("dst_dns") or port in self.settings.ports or not is_public(address):
            return
        if event.coverage is not None and event.coverage < self.settings.coverage:
            return
        if not self._known(address) and self._once.first(self.subject(event, address), event.timestamp):
            self.report(event, address=address, port=port)

    def _known(self, address: str) -> bool:
        """Return whether the cache has a name for an address. `dst_dns` is empty while no cache answers, too."""
        try:
            return bool(self.dns.get(address)["dns_queries"])
        except DataNotFound:
            return False
