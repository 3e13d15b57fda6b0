"""The example of tracee's page on the DNS data source: when ping exits, the cache must contain google.com.

Sees: the exit of /usr/bin/ping after it resolved google.com.
Cannot see: another ping.
False positives: it is an end-to-end test. Every such ping is reported.
MITRE: none.
Settings: off by default, since it is a test; `enabled` switches it on.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dnstrail.datasource import DataSource
from dnstrail.errors import DataNotFound, DataSourceMissing
from dnstrail.events import SCHED_PROCESS_EXIT, Event
from dnstrail.signature import EventSelector, Signature, SignatureContext, SignatureMetadata

_PING = "/usr/bin/ping"
_NAME = "google.com"


class E2eSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The switch: a test runs where a user asks for it."""

    enabled: bool = False


class E2eDnsDataSource(Signature):
    """Reports the exit of a ping if google.com then has an address, and comes first among the names of its lookup."""

    metadata: ClassVar[SignatureMetadata] = SignatureMetadata(
        id="DNS_DATA_SOURCE",
        version="1",
        name="DNS Data Source Test",
        event_name="DNS_DATA_SOURCE",
        event_id=6000,
        description="Instrumentation events E2E Tests: DNS Data Source Test",
        tags=("e2e", "instrumentation"),
    )
    selected_events: ClassVar[tuple[EventSelector, ...]] = (
        EventSelector(source="tracee", name=SCHED_PROCESS_EXIT, origin="*"),
    )

    settings: ClassVar[E2eSettings] = E2eSettings()

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

    def on_event(self, event: Event) -> None:
        """Look google.com up when a ping exits."""
        if event.executable.path != _PING:
            return
        try:
            found = self.dns.get(_NAME)
        except DataNotFound:
            return
        if found["ip_addresses"] and found["dns_queries"] and found["dns_queries"][0] == _NAME:
            self.report(event)
