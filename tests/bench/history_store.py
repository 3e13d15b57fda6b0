"""The history: facts from the bus onto disk, as at 2,000 a second, over several segments; and its idle load.

The questions of a host with 40 programs: 3,000 names, a few of them asked most, with one to four addresses behind one
alias for every second name; each hundredth question is for a new name.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figures import Figure

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import facts_address, lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import DNS_TRANSACTION
from dnstrail.history.segment import MOST_TRANSACTIONS
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.facts import FactFeed, packed_fact
from dnstrail.protocol.replay_window import ReplayWindow
from dnstrail.protocol.replays import replay_address
from dnstrail_history.store.store import FactStore
from dnstrail_history.worker import TOPICS, HistoryWorker
from live.processes import processor_time, resident, run_dir, started
from live.workers import FakeClock, open_bus, wait_until

SEGMENTS = 2
SECONDS, RATE = 10.0, 50  # of the measurement of the load
START = "fedcba9876543210"  # of the probe
_TURN = 100  # facts: a turn of 50 ms
NAMES, PROGRAMS = 3000, 40
BEGIN, SPACING = 1_795_000_000 * 10**9, 500_000  # ns
_CLIENT, _SERVER = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 53])


def measure(_capture: str) -> Iterator[Figure]:
    """Measure the cost of storing, the bytes, and the longest pause of the writer; and the load of a process."""
    with run_dir() as folder:
        yield from _load(folder)
    with run_dir() as folder, open_bus() as bus, TemporaryDirectory(dir=Path.cwd()) as name:
        yield from _stored(folder, bus, Path(name, "history"))


def _stored(folder: Path, bus: ZmqBus, history: Path) -> Iterator[Figure]:
    count, clock = SEGMENTS * MOST_TRANSACTIONS + 1, FakeClock(wall=BEGIN / 1e9)
    cache, lookups = _Cache(folder, bus), lookups_address(folder)
    store, feed = FactStore(history, clock), FactFeed(bus, lookups, TOPICS)
    worker = HistoryWorker(feed, bus.requester(replay_address(facts_address(lookups))), store, clock)
    wait_until(lambda: worker.step() or cache.publisher.subscribers(TURN), "the subscription")
    pauses, used, written, facts = [], 0, _written(), facts_of(count)
    while sent := [*islice(facts, _TURN)]:
        cache.turn(sent, clock.monotonic())
        clock.monotonic_time += 0.05
        while worker.counters["received"] < cache.published:
            cache.serve()
            bus.wait(feed.subscriber, timeout=0.1)
            began, cpu = time.perf_counter_ns(), time.thread_time_ns()
            worker.step()
            used += time.thread_time_ns() - cpu
            pauses.append((time.perf_counter_ns() - began) / 10**6)
    clock.monotonic_time += 1.0
    wait_until(lambda: worker.step() or store.counters["finished"] == SEGMENTS, "the segments")
    worker.close()
    assert (store.counters["stored"], worker.losses) == (count, {})
    yield Figure("a transaction, the writer", used / count / 1000, "us")
    yield Figure("bytes written a transaction", (_written() - written) / count, "bytes")
    kept = sum(path.stat().st_size for path in history.glob("*.segment"))
    yield Figure("bytes kept a transaction", kept / (SEGMENTS * MOST_TRANSACTIONS), "bytes")
    yield Figure("the longest step of the writer", max(pauses), "ms")
    yield from _of_lives(history)


def _load(folder: Path) -> Iterator[Figure]:
    """Measure the process of a worker that receives RATE facts a second."""
    with open_bus() as bus, started("history", "--run-dir", folder, "--folder", folder.parent / "history") as process:
        cache, facts = _Cache(folder, bus), facts_of(int(2 * SECONDS * RATE))
        wait_until(lambda: cache.publisher.subscribers(TURN), "the subscription")

        def publish(seconds: float) -> float:
            """Publish a turn each 40 ms; return the time (s) for which the threads of the worker ran."""
            before = processor_time(process.pid).used
            for _ in range(int(seconds * RATE / 2)):
                cache.turn([*islice(facts, 2)], time.monotonic())
                cache.serve()  # what came before the subscription
                time.sleep(2 / RATE)
            return processor_time(process.pid).used - before

        publish(1.0)
        began = time.monotonic()
        ran = publish(SECONDS)
        yield Figure(f"{RATE} a second, share of a core", ran / (time.monotonic() - began) * 100, "%")
        yield Figure(f"{RATE} a second, RSS", resident(process.pid), "MiB")


class _Cache:
    """The publishing side of a cache. `published` counts its facts."""

    def __init__(self, folder: Path, bus: ZmqBus) -> None:
        address = facts_address(lookups_address(folder))
        self.published = 0
        self.publisher = bus.publisher(address, lossless=False)
        self._server = bus.server(replay_address(address))
        self._batches = BatchPublisher(self.publisher, "0123456789abcdef", live=True, hop="cache")
        self._batches.window = self._window = ReplayWindow("0123456789abcdef")

    def turn(self, facts: list[Captured], now: float) -> None:
        """Publish facts, and the end of their turn."""
        for one in facts:
            self._batches.add(DNS_TRANSACTION, one, "web1", START)
        self.published += len(facts)
        self._batches.close_turn(facts[-1].timestamp, Counter(), closed=now)
        self._batches.flush()

    def serve(self) -> None:
        """Replay turns to a subscriber that missed them."""
        self._window.serve(self._server)


def _of_lives(folder: Path) -> Iterator[Figure]:
    for path in folder.glob("*.lives"):
        database = sqlite3.connect(path)
        [lives] = database.execute("SELECT count(*) FROM lives").fetchone()
        database.close()
        yield Figure(f"bytes a life, of {lives:,}", path.stat().st_size / lives, "bytes")


def _written() -> int:
    """Return the bytes that this process has written to files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def facts_of(count: int) -> Iterator[Captured]:
    """Yield some facts, as a cache publishes them."""
    chosen, hosts = random.Random(27), [*known_hosts()]
    programs = [_program(number) for number in range(PROGRAMS)]
    for number in range(count):
        name, relations = hosts[min(int(chosen.paretovariate(0.6)) - 1, NAMES - 1)]
        if number % 100 == 0:
            name = f"id{number:x}.new.example"
            relations = [(name, 1, "198.51.100.7", 60)]
        yield _fact(number, chosen, name, relations, programs[number * 7 % PROGRAMS])


def known_hosts() -> Iterator[tuple[str, list[tuple[str, int, str, int]]]]:
    """Yield the names that are asked, each with its relations and their TTLs."""
    for number in range(NAMES):
        name = f"host{number}.service{number % 97}.example"
        owner, relations = name, []
        if number % 2:
            owner = f"edge{number % 300}.cdn.example"
            relations.append((name, 5, owner, 300))
        relations += [(owner, 1, f"203.0.{number % 250}.{part + 1}", 60) for part in range(1 + number % 4)]
        yield name, relations


def _program(number: int) -> Process:
    numbers = {"pid": 1000 + number, "start_time": BEGIN + number, "cgroup_id": 4000 + number, "owner": 4000 + number}
    container = {"container_id": f"{number:064x}", "container_name": f"web-{number}", "container_image": "web:1"}
    return Process(name=f"worker{number}", path=f"/usr/bin/worker{number}", parent_pid=1, **numbers, **container)


def _fact(number: int, chosen: random.Random, name: str, relations: list[Any], process: Process) -> Captured:
    flow = Flow(_CLIENT, chosen.randrange(32768, 61000), _SERVER, 53, "udp", namespace=4026531840)
    packed, begun = [], name
    for owner, rdtype, target, ttl in relations:
        kept = [rdtype, target, chosen.randrange(1, ttl)]
        packed.append(kept if owner == begun else [*kept, owner])
        begun = target
    identity, waited = divmod(number, 250), chosen.randrange(100_000, 40_000_000)
    values = [identity, None, 10_000 + number, None, None, 0, None, name, 1, 0, 0, 1, waited, packed]
    values += [None, True, True, None, False]
    return packed_fact(BEGIN + number * SPACING, flow, process, values)
