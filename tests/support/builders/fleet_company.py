"""Hosts of a company whose entries go to a store, and from there to signatures, in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import msgspec

from builders.fleet import NOON, FakeLog, entry
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import fleet_address
from dnstrail.client import LookupClient
from dnstrail.datasource import DataSources
from dnstrail.signature import Finding, Signature
from dnstrail_fleet.lookups.server import FleetServer
from dnstrail_fleet.row import FleetRow, encode_entry, read_entry
from dnstrail_fleet.signatures.source import FleetDataSource
from dnstrail_fleet.signatures.worker import FleetSignatureWorker
from dnstrail_fleet.store.store import FleetStore, ReceivedEntry
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.signature_settings import SignatureSettings
from live.processes import run_dir
from live.workers import FakeClock


class Company:
    """A store with its lookups, and a worker with one signature. `findings` holds what it reported, in order."""

    def __init__(self, store: FleetStore, client: LookupClient, clock: FakeClock, cls: type[Signature], **own: Any):
        self.findings: list[Finding] = []
        self.log = FakeLog()
        self.delivery = Delivery(print)
        self.clock = clock
        self.source = FleetDataSource(client)
        self._store = store
        settings = {cls.metadata.id: SignatureSettings(own=msgspec.structs.replace(cls.settings, **own))}
        engine = Engine([cls], DataSources(self.source), self.findings.append, settings=settings, asked=[cls])
        self.worker = FleetSignatureWorker(self.log, engine, self.source, self.delivery, clock)

    def say(self, host: str, *rows: FleetRow, sent: int = NOON, is_stored: bool = True) -> list[Finding]:
        """Let a host send rows, and handle them; return the findings to which they lead."""
        one = entry(host, *rows, sent=sent)
        self.log.at = sent * 1000
        self.log.put(host, body := encode_entry(one))
        if is_stored:
            checked = read_entry(body, host, self.log.at, self.log.at)
            self._store.write([ReceivedEntry(host, self.log.at, checked)], {}, sent)
        return self.step()

    def step(self) -> list[Finding]:
        """Let the worker handle what is new; return the findings."""
        known = len(self.findings)
        self.worker.step()
        return self.findings[known:]

    def again(self) -> list[Finding]:
        """Let all entries come again."""
        self.log.rewind()
        return self.step()


@contextmanager
def company(cls: type[Signature], **own: Any) -> Iterator[Company]:
    """Make a company whose signature has these settings."""
    with run_dir() as folder:
        clock = FakeClock(wall=NOON + 60.0)
        with closing(FleetStore(folder / "store")) as store, closing(ZmqBus()) as bus:
            server = FleetServer(partial(ZmqBus), address := fleet_address(folder), store.path, clock)
            try:
                with closing(LookupClient(address, bus=bus)) as client:
                    yield Company(store, client, clock, cls, **own)
            finally:
                server.close()


def data_of(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the data of findings."""
    return [one.data for one in findings]
