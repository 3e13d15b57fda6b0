"""Groups of signature workers: the processor time of three that share the events, beside that of one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

from live.groups import Group, events, group
from live.processes import run_dir, wait_until
from live.workers import Probe, probe

EVENTS, WORKERS, RUNS = 2000, 3, 3  # 6,000 findings of each
RATE = 1000  # events a second
TURN = 5  # events, those of five milliseconds


def measure(_capture: str) -> Iterator[Figure]:
    """Play the same events to three workers, and to another one at the same time; use the run that costs least."""
    with run_dir() as folder, group(folder, WORKERS) as workers:
        workers.start("--group", "another")
        workers.await_members(WORKERS + 1)
        with probe(folder, live=True, subscribers=WORKERS + 2) as publishing:
            runs = [_run(workers, publishing, number * EVENTS) for number in range(RUNS)]
            publishing.publisher.linger(1.0)
            least = min(map(workers.count, range(WORKERS))) / (RUNS * EVENTS)
    together, one = min(runs, key=sum)
    yield Figure("one worker: processor time for an event and its finding", one, "us")
    yield Figure(f"{WORKERS} workers: processor time for an event and its finding", together, "us")
    yield Figure(f"{WORKERS} workers against one", together / one, "times")
    yield Figure("the least share of one of them", least * 100, "%")


def _run(workers: Group, publishing: Probe, first: int) -> tuple[float, float]:
    """Return the microseconds of processor time for an event, of the workers together and of the other one."""
    before, began = [*map(_spent, workers.processes)], time.monotonic()
    for number in range(0, EVENTS, TURN):
        time.sleep(max(began + number / RATE - time.monotonic(), 0))
        publishing.turn(*events(first + number, TURN))
    wait_until(lambda: _complete(workers, publishing, first + EVENTS), "one finding of each event")
    spent = [now - then for now, then in zip(map(_spent, workers.processes), before, strict=True)]
    return sum(spent[:WORKERS]) / EVENTS / 1000, spent[WORKERS] / EVENTS / 1000


def _complete(workers: Group, publishing: Probe, count: int) -> bool:
    """Return whether all findings were made; an empty turn is the heartbeat of the probe."""
    publishing.turn()
    return sum(map(workers.count, range(WORKERS))) == workers.count(WORKERS) == count


def _spent(process: subprocess.Popen[bytes]) -> int:
    """Return the nanoseconds for which the threads of a process have run."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in tasks)
