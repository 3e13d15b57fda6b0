"""The fleet: rows in the engine, a store of a million rows, and lookups.

The store has ten days of the rows of `builders.fleet_rows`.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import Figure

from builders.fleet import DAY, NOON, received
from builders.fleet_rows import NAMES, entry_of, name_of, popular
from dnstrail.protocol.lookups import encode_request
from dnstrail_fleet.files import open_to_read
from dnstrail_fleet.log.valkey_log import PREFIX, ValkeyLog
from dnstrail_fleet.lookups.answers import answer_lookup
from dnstrail_fleet.lookups.reading import StoreReader
from dnstrail_fleet.row import encode_entry
from dnstrail_fleet.store.store import FleetStore
from live.fleet_processes import fleet
from live.valkey_server import engine
from live.workers import wait_until

ROWS = 1_000_000
SAMPLES = 50
_DAYS = 10
_LOOKUPS = 1_000
_ROWS_OF_ENTRY = 50


def measure(_capture: str) -> Iterator[Figure]:
    """Measure the engine, the store and its lookups."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        yield from _engine(Path(name, "engine"))
        yield from _store(Path(name, "store"))
        yield from _known(Path(name, "known"))


def _engine(folder: Path) -> Iterator[Figure]:
    """Measure small entries, as a host with 20 answers a second sends them."""
    chosen = random.Random(30)
    sent = [encode_entry(entry_of(chosen, 0, 5)) for _ in range(2_000)]
    with engine(folder, "web1") as running, closing(running.client()) as admin:
        log = ValkeyLog(running.address("web1"), time.monotonic)
        cpu = time.process_time_ns()
        for body in sent:
            log.append(body)
        yield Figure("append, an entry", (time.process_time_ns() - cpu) / len(sent) / 1000, "us")
        stored = admin.memory_usage(f"{PREFIX}web1", samples=0)
        yield Figure("a row in an entry of 5", sum(map(len, sent)) / len(sent) / 5, "bytes")
        yield Figure("a row of such an entry in the stream", stored / len(sent) / 5, "bytes")


def _store(folder: Path) -> Iterator[Figure]:
    chosen, used, steps, written = random.Random(31), 0, [], 0
    with closing(FleetStore(folder)) as store:
        for day in range(_DAYS):
            for _ in range(ROWS // _DAYS // _ROWS_OF_ENTRY // 20):
                part = [received(entry_of(chosen, day - _DAYS, _ROWS_OF_ENTRY)) for _ in range(20)]
                began, cpu = time.perf_counter_ns(), time.process_time_ns()
                store.write(part, {}, NOON)
                used += time.process_time_ns() - cpu
                steps.append((time.perf_counter_ns() - began) / 10**6)
                written += 20 * _ROWS_OF_ENTRY
        [rows] = store._database.execute("SELECT count(*) FROM rows").fetchone()
        store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield Figure(f"store, a row of {written:,}", used / written / 1000, "us")
        yield Figure("store, the longest write of 1,000 rows", max(steps), "ms")
        yield Figure(f"store, a row of {rows:,}", store.path.stat().st_size / rows, "bytes")
        with closing(StoreReader(open_to_read(store.path))) as reader:
            yield from _lookups(reader)
        yield from removal(store, NOON + (store._days - 5) * DAY)


def removal(store: FleetStore, now: float) -> Iterator[Figure]:
    """Remove the rows that are too old at a time (seconds since the epoch)."""
    steps, removed, used = store.remove_old(now), 0, list[float]()
    cpu = time.process_time_ns()
    for count in steps:
        used.append((time.process_time_ns() - cpu) / 10**6)
        removed += count
        cpu = time.process_time_ns()
    yield Figure(f"removing days of {removed:,} rows", sum(used), "ms")
    yield Figure(f"removing days of {removed:,} rows, longest of {len(used):,} steps", max(used), "ms")


def _known(folder: Path) -> Iterator[Figure]:
    """Measure from the time when the history holds an answer until the fleet knows it, with real processes."""
    folder.mkdir(mode=0o700)
    times = []
    with fleet(folder, "web1") as found:
        history = found.history("web1")
        found.keep(history, "begin.example", "203.0.113.7")
        found.send("web1")
        found.store()
        wait_until(lambda: found.data("get", key="begin.example"), "the first answer")
        for number in range(SAMPLES):
            name = f"n{number}.example"
            time.sleep(0.137 * (number % 8))
            found.keep(history, name, "203.0.113.8")
            began = time.monotonic()
            wait_until(lambda name=name: found.data("get", key=name), name)
            times.append(time.monotonic() - began)
    times.sort()
    yield Figure(f"answer until the fleet knows it, median of {SAMPLES}", statistics.median(times), "s")
    yield Figure(f"answer until the fleet knows it, p99 of {SAMPLES}", times[len(times) * 99 // 100], "s")


def _lookups(reader: StoreReader) -> Iterator[Figure]:
    chosen = random.Random(32)
    addresses = [name_of(popular(chosen, NAMES))[1][-1][2] for _ in range(_LOOKUPS)]
    names = [name_of(popular(chosen, NAMES))[0] for _ in range(_LOOKUPS)]
    for what, keys in (("an address", addresses), ("a name", names)):
        for when, times in (
            ("newest 100 of", sorted(_milliseconds(reader, "get", key=key) for key in keys)),
            ("at a time,", sorted(_milliseconds(reader, "get", key=key, at=_then(chosen)) for key in keys)),
        ):
            yield Figure(f"get, {when} {what}, median", statistics.median(times), "ms")
            yield Figure(f"get, {when} {what}, p99", times[len(times) * 99 // 100], "ms")
    yield Figure("new", _milliseconds(reader, "new", since=NOON - 2 * DAY), "ms")
    for what in ("hosts", "names", "addresses"):
        yield Figure(f"top {what}", _milliseconds(reader, "top", what=what), "ms")


def _then(chosen: random.Random) -> int:
    """Return a time of the last week."""
    return NOON - chosen.randrange(1, 8) * DAY + chosen.randrange(-30_000, 30_000)


def _milliseconds(reader: StoreReader, op: str, **fields: object) -> float:
    body, began = encode_request(op, **fields), time.process_time_ns()
    answer_lookup(body, reader, NOON, _never)
    return (time.process_time_ns() - began) / 10**6


def _never() -> bool:
    return False
