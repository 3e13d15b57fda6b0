"""The store of the history: facts off the bus onto disk, as at 2,000 a second, over several segments.

The questions of a host with 40 programs: 3,000 names, a few of them asked most, with one to four addresses behind one
alias for every second name; each hundredth question is for a new name.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figures import Figure

from dnstrail.captured import Captured, Flow, Process
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.batches import Batch, decode, encode
from dnstrail.protocol.facts import packed_fact
from dnstrail.protocol.turn_follower import Position
from dnstrail_history.fact import read_fact
from dnstrail_history.store.segment import MOST_TRANSACTIONS, StoredProgress, Stretch
from dnstrail_history.store.store import FactStore

SEGMENTS = 4
_COMMIT = 500  # facts: a quarter of a second
_BATCH = 100  # facts: a turn of 50 ms
_NAMES, _PROGRAMS = 3000, 40
_BEGIN, _SPACING = 1_795_000_000 * 10**9, 500_000  # ns
_CLIENT, _SERVER = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 53])


def measure(_capture: str) -> Iterator[Figure]:
    """Measure the cost of storing, the bytes, and the longest pause of the writer."""
    count = SEGMENTS * MOST_TRANSACTIONS + 1
    bodies = [*_bodies(count)]
    with TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name, "history")
        store = FactStore(folder, SystemClock())
        pauses, used, written = [], 0, _written()
        for turn, body in enumerate(bodies):
            began, cpu = time.perf_counter_ns(), time.thread_time_ns()
            batch = decode(body, Batch)
            for captured in batch.events:
                store.add(read_fact(captured, batch.host, 0))
            if turn % (_COMMIT // _BATCH) == 0 or body is bodies[-1]:
                position = Position(turn, {"dns_transaction": turn}, {"dns_transaction": turn * _BATCH})
                store.commit(StoredProgress({"s": position}, Stretch(_BEGIN, _BEGIN + turn)))
            used += time.thread_time_ns() - cpu
            pauses.append((time.perf_counter_ns() - began) / 10**6)
        while store.counters["finished"] < SEGMENTS:
            store.step()
            time.sleep(0.01)
        store.close()
        yield Figure("a transaction, the writer", used / count / 1000, "us")
        yield Figure("bytes written a transaction", (_written() - written) / count, "bytes")
        kept = sum(path.stat().st_size for path in folder.glob("*.segment"))
        yield Figure("bytes kept a transaction", kept / (SEGMENTS * MOST_TRANSACTIONS), "bytes")
        yield Figure("the longest pause of the writer", max(pauses), "ms")
        yield from _of_lives(folder)


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


def _bodies(count: int) -> Iterator[bytes]:
    """Return the batches of some facts, as a cache publishes them."""
    chosen, hosts = random.Random(27), [*_hosts()]
    programs = [_program(number) for number in range(_PROGRAMS)]
    facts: list[Captured] = []
    for number in range(count):
        name, relations = hosts[min(int(chosen.paretovariate(0.6)) - 1, _NAMES - 1)]
        if number % 100 == 0:
            name = f"id{number:x}.new.example"
            relations = [(name, 1, "198.51.100.7", 60)]
        facts.append(_fact(number, chosen, name, relations, programs[number * 7 % _PROGRAMS]))
        if len(facts) == _BATCH or number == count - 1:
            turn = number // _BATCH
            yield encode(Batch("s", turn, turn, facts, {"dns_transaction": turn * _BATCH}, "web1"))
            facts = []


def _hosts() -> Iterator[tuple[str, list[tuple[str, int, str, int]]]]:
    for number in range(_NAMES):
        name = f"host{number}.service{number % 97}.example"
        owner, relations = name, []
        if number % 2:
            owner = f"edge{number % 300}.cdn.example"
            relations.append((name, 5, owner, 300))
        relations += [(owner, 1, f"203.0.{number % 250}.{part + 1}", 60) for part in range(1 + number % 4)]
        yield name, relations


def _program(number: int) -> Process:
    numbers = {"pid": 1000 + number, "start_time": _BEGIN + number, "cgroup_id": 4000 + number, "owner": 4000 + number}
    container = {"container_id": f"{number:064x}", "container_name": f"web-{number}", "container_image": "web:1"}
    return Process(name=f"worker{number}", path=f"/usr/bin/worker{number}", parent_pid=1, **numbers, **container)


def _fact(number: int, chosen: random.Random, name: str, relations: list[Any], process: Process) -> Captured:
    flow = Flow(_CLIENT, chosen.randrange(32768, 61000), _SERVER, 53, "udp", namespace=4026531840)
    packed, begun = [], name
    for owner, rdtype, target, ttl in relations:
        kept = [rdtype, target, chosen.randrange(1, ttl)]
        packed.append(kept if owner == begun else [*kept, owner])
        begun = target
    identity, waited = f"0123456789abcdef/{number // 250}/{number % 250}", chosen.randrange(100_000, 40_000_000)
    values = [identity, None, 10_000 + number, None, None, 0, None, name, 1, 0, 0, 1, waited, packed]
    values += [None, True, True, None, False]
    return packed_fact(_BEGIN + number * _SPACING, flow, process, values)
