"""What a fleet needs (`make fleet`): rows of a host, their bytes and costs, and from these the sizes of large fleets.

A host asks for the answers of the corpus for a day, and connects to the first address of each. The one with the rank r
is asked for with a weight of 1/r, as people ask for names (Zipf's law). A shard is an engine with a store, and the
hosts that it carries: as many as a store reads, and as take half of a core of each at most.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import accumulate
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from figures import Figure, line

from builders.fleet import NOON, TODAY, received
from dnstrail.dns.rdata import AAAA, A
from dnstrail.history.following import AnswerContent, SegmentSpool, SpoolPosition, UseContent
from dnstrail_fleet.log.valkey_log import MOST_ENTRIES, MOST_HOSTS, ValkeyLog
from dnstrail_fleet.row import DAY, VERSION, FleetEntry, encode_entry
from dnstrail_fleet.sender.totals import RelationTotals, by_asker
from dnstrail_fleet.store.store import DAYS, FleetStore
from live.corpus_fleet import load_corpus
from live.valkey_server import Engine, engine

RATES = 5, 20  # answers a second
FLEETS = 10_000, 100_000  # hosts
_BEGIN = TODAY * DAY
_WARM = 3_600  # seconds until most rows are known
_ENTRIES = 2_000  # that are written to the engine
_STORED_HOSTS, _STORED_SECONDS = 8, 7_200  # that are written to the store
_CONNECTIONS = 200
_SHARE = 0.5  # of a core
_SECOND = 1_000_000_000
_MILLION = 1_000_000

Answers = Sequence[tuple[AnswerContent, tuple[int, ...]]]


class HostDay(NamedTuple):
    """The entries of a host on one day, each with its second, and the number of different rows."""

    entries: list[tuple[int, FleetEntry]]
    different: int

    @property
    def steady(self) -> list[FleetEntry]:
        """The entries after the first hour."""
        return [one for second, one in self.entries if second >= _WARM]


class Costs(NamedTuple):
    """What was measured: bytes of a row, us of processor time for an entry or a row, and bytes of a connection."""

    stream: float
    kept: float
    engine: float
    store: float
    connection: float


def main() -> None:
    """Measure, and print the sizes."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with TemporaryDirectory(dir=Path.cwd()) as name:
        load_corpus(Path(name, "history"))
        answers = answers_of(Path(name, "history"))
        print(f"{len(answers):,} different answers; load {os.getloadavg()[0]:.1f}")
        days = {rate: day_of(answers, rate) for rate in RATES}
        for rate, day in days.items():
            print(f"a host with {rate} answers a second")
            show(of_day(day))
        costs = measured(Path(name), days[RATES[0]])
        print("costs")
        show(of_costs(costs))
    for rate, day in days.items():
        for hosts in FLEETS:
            print(f"{hosts:,} hosts with {rate} answers a second")
            show(sizes(hosts, day, costs))


def show(figures: Iterator[Figure]) -> None:
    """Print figures."""
    for one in figures:
        print(line(one.title, [one]), flush=True)


def answers_of(history: Path) -> Answers:
    """Return the different answers of a history with their TTLs, the most frequent first."""
    spool, position, is_end = SegmentSpool(history), SpoolPosition(), False
    counts: Counter[tuple[Any, ...]] = Counter()
    last: dict[tuple[Any, ...], tuple[AnswerContent, tuple[int, ...]]] = {}
    while not is_end:
        part = spool.read(position, 2_048)
        position, is_end = part.position, part.is_end
        for one in part.answers:
            identity = one.content.question, one.content.relations
            counts[identity] += 1
            last[identity] = one.content, one.ttls
    return [last[identity] for identity, _ in counts.most_common()]


def day_of(answers: Answers, rate: int) -> HostDay:
    """Return what a host sends on a day with so many answers a second."""
    chance, totals = Random(29), RelationTotals()
    weights = [*accumulate(1 / rank for rank in range(1, len(answers) + 1))]
    entries = []
    for second in range(DAY):
        now = _BEGIN + second
        for content, ttls in chance.choices(answers, cum_weights=weights, k=rate):
            totals.add(content, now * _SECOND, ttls, doubted=False)
            for address in [target for _, rdtype, target in content.relations if rdtype in (A, AAAA)][:1]:
                asker = content.program, content.container, content.image
                totals.add_use(now * _SECOND, UseContent(*asker, content.question, address))
        rows = totals.due(now)
        if rows:
            entries.append((second, FleetEntry(VERSION, "web1", now * 1000, askers=by_asker(rows))))
            totals.note_sent(rows, now)
        totals.note_stored()
    return HostDay(entries, len(totals._rows))


def rows_of(entries: Sequence[FleetEntry]) -> int:
    """Return the number of rows of entries."""
    return sum(len(asker.rows) for one in entries for asker in one.askers)


def of_day(day: HostDay) -> Iterator[Figure]:
    """Yield what a host sends."""
    first = [one for second, one in day.entries if second < _WARM]
    yield Figure("in the first hour", rows_of(first) / _WARM, "rows/s")
    yield Figure("afterwards", rows_of(day.steady) / (DAY - _WARM), "rows/s")
    yield Figure("its entries", len(day.steady) / (DAY - _WARM), "entries/s")
    yield Figure("different rows of the day", day.different)
    size = sum(len(encode_entry(one)) for one in day.steady)
    yield Figure("a row in an entry", size / rows_of(day.steady), "bytes")


def measured(folder: Path, day: HostDay) -> Costs:
    """Measure what rows cost in the engine and in the store."""
    sent = day.steady[:_ENTRIES]
    with engine(folder / "engine", "web1") as running, ExitStack() as stack:
        admin = stack.enter_context(closing(running.client()))
        log = stack.enter_context(closing(ValkeyLog(running.address("web1"), time.monotonic)))
        reader = stack.enter_context(closing(ValkeyLog(running.address("store"), time.monotonic)))
        before = _processor_time(admin)
        for one in sent:
            log.append(encode_entry(one))
        while entries := reader.read(64):
            reader.acknowledge(entries)
        used = _processor_time(admin) - before
        stream = admin.memory_usage("dnstrail:rows:web1", samples=0) / rows_of(sent)
        connection = _bytes_of_connection(running, admin)
    store, kept = _stored(folder / "store", day)
    return Costs(stream, kept, used / len(sent) * _MILLION, store, connection)


def _processor_time(admin: Any) -> float:
    """Return the seconds of processor time that the engine has used."""
    info = admin.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def _bytes_of_connection(running: Engine, admin: Any) -> float:
    before = admin.info("memory")["used_memory_rss"]
    with ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            stack.enter_context(closing(running.client("web1"))).ping()
        return float(admin.info("memory")["used_memory_rss"] - before) / _CONNECTIONS


def _stored(folder: Path, day: HostDay) -> tuple[float, float]:
    """Return the us for a row of an entry, and the bytes of a stored row."""
    rows, used = 0, 0
    with closing(FleetStore(folder)) as store:
        for number in range(_STORED_HOSTS):
            name = f"web{number}"
            sent = [
                FleetEntry(VERSION, name, one.sent, askers=one.askers)
                for at, one in day.entries
                if at < _STORED_SECONDS
            ]
            rows += rows_of(sent)
            for place in range(0, len(sent), 64):
                part = [received(one) for one in sent[place : place + 64]]
                begin = time.process_time_ns()
                store.write(part, {}, NOON)
                used += time.process_time_ns() - begin
        [count] = store._database.execute("SELECT count(*) FROM rows").fetchone()
        store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return used / rows / 1000, store.path.stat().st_size / count


def of_costs(costs: Costs) -> Iterator[Figure]:
    """Yield the measured costs."""
    yield Figure("a row in the stream", costs.stream, "bytes")
    yield Figure("the engine, an entry that is appended, read and acknowledged", costs.engine, "us")
    yield Figure("the engine, a connection", costs.connection / 1024, "KiB")
    yield Figure("the store, a row that arrives", costs.store, "us")
    yield Figure("the store, a row", costs.kept, "bytes")


def sizes(hosts: int, day: HostDay, costs: Costs) -> Iterator[Figure]:
    """Yield the sizes of a fleet, computed from what was measured."""
    seconds = DAY - _WARM
    rows, entries = rows_of(day.steady) / seconds, len(day.steady) / seconds
    of_store, of_engine = rows * costs.store / _MILLION, entries * costs.engine / _MILLION  # cores for a host
    carried = min(MOST_HOSTS, int(_SHARE / max(of_store, of_engine)))
    shards = math.ceil(hosts / carried)
    yield Figure(f"shards, of {math.ceil(hosts / shards):,} hosts", shards)
    yield Figure("rows", hosts * rows, "rows/s")
    yield Figure("the store of a shard", hosts / shards * of_store * 100, "% of a core")
    yield Figure("the engine of a shard", hosts / shards * of_engine * 100, "% of a core")
    held = min(MOST_ENTRIES, entries * DAY) * rows / entries * costs.stream + costs.connection
    yield Figure("memory of the engine of a shard", hosts / shards * held / (1 << 30), "GiB")
    yield Figure("the log of all engines, a day", hosts * rows * DAY * costs.stream / (1 << 30), "GiB")
    yield Figure(f"rows of the store of a shard, {DAYS} days", hosts / shards * day.different * DAYS)
    yield Figure("disk of all stores, a day", hosts * day.different * costs.kept / (1 << 30), "GiB")


if __name__ == "__main__":
    main()
