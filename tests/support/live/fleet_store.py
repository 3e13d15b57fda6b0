"""A store of the fleet that answers at a run-dir: its rows are written by its own interface, without an engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from builders.fleet import received
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import fleet_address
from dnstrail.process.clock import SystemClock
from dnstrail_fleet.log.contract import StreamLag
from dnstrail_fleet.lookups.server import FleetServer
from dnstrail_fleet.row import FleetEntry
from dnstrail_fleet.store.store import FleetStore


class AnsweringStore:
    """A store, and its server while it answers. Its clock is that of the host."""

    def __init__(self, store: FleetStore, address: str) -> None:
        self.address = address
        self._store = store
        self._server: FleetServer | None = None

    def write(self, *entries: FleetEntry, late: int = 0, **refused: int) -> None:
        """Write entries whose hosts have a clock that is `late` ms late, and what was refused of the first host."""
        faults = {(entries[0].host, reason): count for reason, count in refused.items()}
        self._store.write([received(one, late=late) for one in entries], faults, time.time())

    def note_lag(self, host: str, waiting: int, trimmed: int) -> None:
        """Note what waits in the engine."""
        self._store.note_lag({host: StreamLag(waiting, trimmed)})

    def start(self) -> None:
        """Answer lookups."""
        self._server = FleetServer(partial(ZmqBus, None), self.address, self._store.path, SystemClock())

    def stop(self) -> None:
        """Answer no longer."""
        if self._server is not None:
            self._server.close()
        self._server = None


@contextmanager
def answering_store(folder: Path, run_dir: Path) -> Iterator[AnsweringStore]:
    """Make an empty store in a folder, which answers at a run-dir."""
    with closing(FleetStore(folder)) as store:
        found = AnsweringStore(store, fleet_address(run_dir))
        found.start()
        try:
            yield found
        finally:
            found.stop()
