"""A sender of a fleet: what it reads in the history, and its rows."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import Figure

from builders.facts import fact_of, progress_of
from builders.fleet import NOON, FakeLog
from builders.fleet_rows import name_of, popular
from dnstrail.captured import Process
from dnstrail.history.following import SegmentSpool
from dnstrail_fleet.sender.state import SenderState
from dnstrail_fleet.sender.worker import COLLECT, FleetSender
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

TRANSACTIONS = 200_000
_SECOND = 1_000_000_000


class _Paced(FakeClock):
    """A clock whose monotonic time passes, and which a test advances besides."""

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return time.monotonic() + self.monotonic_time


def measure(_capture: str) -> Iterator[Figure]:
    """Measure a sender from its first transaction until all rows are sent."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        yield from _sender(Path(name))


def _sender(folder: Path) -> Iterator[Figure]:
    clock = FakeClock(NOON)
    with closing(FactStore(folder / "history", clock)) as history:
        chosen = random.Random(29)
        for number in range(TRANSACTIONS):
            question, relations = name_of(popular(chosen, 3_000))
            process = Process(1000 + number % 40, f"p{number % 40}", f"/usr/bin/worker{number % 40}")
            stated = tuple((*one, 60) for one in relations)
            ended = NOON * _SECOND + number * 1_000_000
            history.add(fact_of(number, ended=ended, process=process, relations=stated, name=question))
            if number % 10_000 == 9_999:
                assert history.commit(progress_of(number))
    clock, log = _Paced(NOON + 600), FakeLog()
    log.at += 600_000
    with closing(SenderState(folder / "state")) as state:
        sender = FleetSender(SegmentSpool(folder / "history"), log, state, clock, "web1")
        steps: dict[bool, list[float]] = {True: [], False: []}  # by whether something was read or sent
        used, collect = 0, gc.get_threshold()
        gc.set_threshold(COLLECT)  # as the process of a sender has it
        gc.enable()
        while sender.counters["read"] < TRANSACTIONS or sender.waiting:
            before, began, cpu = sender.counters.copy(), time.perf_counter_ns(), time.process_time_ns()
            sender.step()
            is_busy = sender.counters != before
            used += (time.process_time_ns() - cpu) * is_busy
            steps[is_busy].append((time.perf_counter_ns() - began) / 10**6)
            clock.advance(1)
        gc.disable()
        gc.set_threshold(*collect)
    yield Figure("sender, a transaction read and its rows", used / TRANSACTIONS / 1000, "us")
    yield Figure("sender, the longest step", max(steps[True]), "ms")
    yield Figure("sender, a second without facts, median", statistics.median(steps[False]), "ms")
    yield Figure("a row in an entry", sum(len(one.body) for one in log.entries) / sender.counters["rows"], "bytes")
