"""The history of a host that saw the corpus, and the steps by which its rows come into a store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory

from builders.corpus import CAPTURES, CORPUS
from dnstrail.history.following import SegmentSpool
from dnstrail_fleet.log.contract import FleetLog
from dnstrail_fleet.row import DAY
from dnstrail_fleet.sender.state import SenderState
from dnstrail_fleet.sender.worker import FleetSender
from dnstrail_fleet.store.store import FleetStore
from dnstrail_fleet.store.worker import StoreWorker
from live.processes import dnstrail
from live.workers import FakeClock

DAYS = 100_000  # more than since the oldest capture
_HEADER = 24  # bytes of the header of a file
_RECORD, _SECONDS = Struct("<IIII"), Struct("<I")  # the header of a packet, and its begin


class SteppedClock(FakeClock):
    """A clock with real wall time, as the engine has, whose monotonic time a test steps."""

    def wall(self) -> float:
        """Return the wall time."""
        return time.time()


def load_corpus(folder: Path) -> None:
    """Load all captures of the corpus into a history in a folder that does not exist."""
    with TemporaryDirectory() as other:
        large = Path(other, "large.pcap")
        large.write_bytes(made_earlier((CORPUS / "tracee-dnsperf.pcap").read_bytes(), 51 * 365))
        done = dnstrail("history", "--folder", folder, "load", *CAPTURES, large)
    assert done.returncode == 0, done.stderr


def made_earlier(capture: bytes, days: int) -> bytes:
    """Return a capture (pcap) with earlier time stamps: no sender sends what is ahead of its clock."""
    changed, at = bytearray(capture), _HEADER
    while at < len(capture):
        seconds, _, size, _ = _RECORD.unpack_from(capture, at)
        _SECONDS.pack_into(changed, at, seconds - days * DAY)
        at += _RECORD.size + size
    return bytes(changed)


def send_all(history: Path, log: FleetLog, state: Path, host: str) -> dict[str, int]:
    """Send all rows of a history up to now, and return the counters of the sender."""
    clock = SteppedClock()
    with closing(SenderState(state)) as kept:
        sender = FleetSender(SegmentSpool(history), log, kept, clock, host)
        sent = -1
        while sender.counters["rows"] > sent:  # answers of a capture from the future wait
            sent = sender.counters["rows"]
            sender.step()
            clock.advance(1)
            assert not sender.fault
        return dict(sender.counters)


def store_all(log: FleetLog, folder: Path) -> dict[str, int]:
    """Store all entries of a log, and return the counters of the store."""
    with closing(FleetStore(folder, days=DAYS)) as store:
        worker = StoreWorker(log, store, SteppedClock())
        worker.step()
        while not worker.pause:
            worker.step()
        assert not worker.fault
        return dict(store.counters)


def print_counts(rows: int, counts: Mapping[tuple[str, str], int]) -> None:
    """Print the share of lookups with an unknown history, of counts by ("known" or "unknown", whether found)."""
    unknown = sum(count for (history, _), count in counts.items() if history == "unknown")
    print(f"{rows:,} rows; history false for {unknown / sum(counts.values()):.1%} of the lookups: {dict(counts)}")
