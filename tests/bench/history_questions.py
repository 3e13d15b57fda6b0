"""Questions to a history of ten million transactions, those of `history_store`, in processor time."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from figures import Figure, spread
from history_store import BEGIN, NAMES, PROGRAMS, SPACING, START, facts_of, known_hosts

from dnstrail.captured import Captured
from dnstrail.events import DNS_TRANSACTION
from dnstrail.history.fact import read_fact
from dnstrail.history.lives_reader import LivesReader
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import EVERYTHING, LogSelection
from dnstrail.history.segment import MOST_TRANSACTIONS, StoredProgress, Stretch
from dnstrail.protocol.batches import Batch, encode
from dnstrail.protocol.fact_batches import decode_facts
from dnstrail.protocol.lookups import encode_request
from dnstrail.protocol.past_lookups import PastImage, encode_past
from dnstrail_history.past.answers import answer_past
from dnstrail_history.past.segments import Segments
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

COUNT = 10_000_000
QUESTIONS = 200
_AT_ONCE = 1000  # facts of a commit
_LOGGED = 2_000_000  # entries of the log that are read
_SERVICES = 97  # ends of names
_PRESENT = PastImage(grace=300.0, history=3600.0)


def measure(_capture: str) -> Iterator[Figure]:
    """Measure each kind of question with keys that are asked often, seldom, and once."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name, "history")
        _fill(folder)
        chosen, known = random.Random(5), [*known_hosts()]

        def name_of() -> str:
            return known[chosen.randrange(NAMES)][0]

        def address() -> str:
            return str(known[chosen.randrange(NAMES)][1][-1][2])

        def new() -> str:
            return f"id{chosen.randrange(COUNT // 100) * 100:x}.new.example"

        selections: dict[str, Callable[[], LogSelection]] = {
            "an end of names": lambda: LogSelection(name=f"*.service{chosen.randrange(_SERVICES)}.example"),
            "a program": lambda: LogSelection(process=f"worker{chosen.randrange(PROGRAMS)}"),
            "a name": lambda: LogSelection(name=name_of()),
            "an address": lambda: LogSelection(network=ip_network(address())),
            "a name that was asked once": lambda: LogSelection(name=new()),
        }
        for title, select in selections.items():
            yield from _spread(f"newest 100, {title}", partial(_newest, folder, select))
        gc.freeze()  # as the worker does
        segments = Segments(folder)
        segments.learn(lambda: False)
        keys = {"a name": name_of, "an address": address, "a name that was asked once": new}
        for title, key in keys.items():
            yield from _spread(f"get --at, {title}", partial(_get, segments, key, chosen))
        segments.close()
        for title, key in keys.items():
            yield from _spread(f"seen, {title}", partial(_seen, folder, key))
        used = time.thread_time()
        count = sum(1 for _ in islice(HistoryLog(folder, _fail).read(EVERYTHING), _LOGGED))
        yield Figure("log, entries a second", count / (time.thread_time() - used), "/s")


def _spread(title: str, ask: Callable[[], object]) -> Iterator[Figure]:
    samples = []
    for _ in range(QUESTIONS):
        used = time.thread_time()
        ask()
        samples.append((time.thread_time() - used) * 1000)
    return spread(title, samples, "ms", "p50", "p99")


def _newest(folder: Path, select: Callable[[], LogSelection]) -> None:
    HistoryLog(folder, _fail).newest(select(), 100)


def _get(segments: Segments, key: Callable[[], str], chosen: random.Random) -> None:
    at = BEGIN + chosen.randrange(COUNT) * SPACING
    answer_past(encode_past(encode_request("get", key=key(), at_ns=at), _PRESENT), segments)


def _seen(folder: Path, key: Callable[[], str]) -> None:
    with LivesReader(folder, _fail) as reader:
        reader.of(key(), 0)


def _fill(folder: Path) -> None:
    clock, stored = FakeClock(wall=BEGIN / 1e9), facts_of(COUNT)  # nothing is too old to be kept
    store = FactStore(folder, clock)
    while part := [*islice(stored, _AT_ONCE)]:
        _store(store, part)
        clock.monotonic_time += 0.5
        store.step()
    while store.counters["finished"] < (COUNT - 1) // MOST_TRANSACTIONS:
        time.sleep(0.1)
        store.step()
    store.close()


def _store(store: FactStore, part: list[Captured]) -> None:
    _, rows = decode_facts(DNS_TRANSACTION, encode(Batch("cache", 1, 0, part, probe=START)), _fail)
    for row in rows:
        store.add(read_fact(row, "web1", 0, START))
    assert store.commit(StoredProgress({}, Stretch(BEGIN, part[-1].timestamp)))


def _fail(what: object) -> NoReturn:
    raise AssertionError(what)
