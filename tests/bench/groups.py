"""Groups of signature workers: the processor time of three that share the events, beside that of one."""

from __future__ import annotations

import time
from collections.abc import Iterator

from figures import Figure

from live.groups import Group, events, group
from live.processes import processor_time, run_dir, wait_until
from live.workers import Probe, probe

WORKERS, RUNS = 3, 4
RATES = {1000: 2000, 3000: 6000, 1_000_000: 6000}  # events a second, beyond what is possible too: events of a run
TURNS, LARGEST = 100, 256  # turns of a live probe a second, and events of a turn for which none gather


def measure(_capture: str) -> Iterator[Figure]:
    """Play the same events to three workers, and to another one at the same time; use the run that costs least."""
    with run_dir() as folder, group(folder, WORKERS) as workers:
        workers.start("--group", "another")
        workers.await_members(WORKERS + 1)
        with probe(folder, live=True, subscribers=WORKERS + 2) as publishing:
            publishing.publisher.linger(1.0)
            for rate in RATES:
                together, one = min((_run(workers, publishing, rate) for _ in range(RUNS)), key=sum)
                at = f"{rate:,} events/s" if rate < max(RATES) else "as fast as they can"
                yield Figure(f"{at}: an event and its finding, one worker", one, "us")
                yield Figure(f"{at}: {WORKERS} workers together", together, "us")
                yield Figure(f"{at}: {WORKERS} workers against one", together / one, "times")
            least = min(map(workers.count, range(WORKERS))) / workers.count(WORKERS)
    yield Figure("the least share of one of them", least * 100, "%")


def _run(workers: Group, publishing: Probe, rate: int) -> tuple[float, float]:
    """Return the microseconds of processor time for an event, of the workers together and of the other one."""
    count, first = RATES[rate], workers.count(WORKERS)
    pids = [process.pid for process in workers.processes]
    before, began = [*map(processor_time, pids)], time.monotonic()
    size = min(rate // TURNS, LARGEST)
    for number in range(0, count, size):
        time.sleep(max(began + number / rate - time.monotonic(), 0))
        publishing.turn(*events(first + number, min(size, count - number)))
    wait_until(lambda: _complete(workers, publishing, first + count), "one finding of each event")
    spent = [now.used - then.used for now, then in zip(map(processor_time, pids), before, strict=True)]
    return sum(spent[:WORKERS]) / count * 1e6, spent[WORKERS] / count * 1e6


def _complete(workers: Group, publishing: Probe, count: int) -> bool:
    """Return whether all findings were made; an empty turn is the heartbeat of the probe."""
    publishing.turn()
    return sum(map(workers.count, range(WORKERS))) == workers.count(WORKERS) == count
