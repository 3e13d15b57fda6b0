"""The faults: what strikes the pipeline, and what has to hold besides the promises of every fault."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import zmq

from dnstrail.bus.ipc import events_address, lookups_address
from live.processes import wait_until
from pipeline_under_load import GROUP, PATIENCE, Pipeline

KILLED = ("probe", "cache", GROUP[0], "findings")
_APART = 0.3  # seconds between two kills: the first worker is not back yet
_HOUR = 3600.0
_LONGEST = 60.0  # seconds for the start and the end of another process
_MALFORMED = Path(__file__).parent / "malformed_requests.py"
_A_SECOND = 10_000  # malformed requests
_AT_ONCE = 100  # distinct names that are reported together


@dataclass
class Trial:
    """One fault at work.

    `further` counts messages sent besides those of the load, and `broken` holds what went wrong. `over` is the time of
    the fault, and the names sent until then, from which the recovery counts; None: at its end. `extent` is shown beside
    the name of the fault.
    """

    pipeline: Pipeline
    short: bool
    further: int = 0
    over: tuple[float, int] | None = None
    extent: str = ""
    broken: list[str] = field(default_factory=list)

    def require(self, holds: object, what: str) -> None:
        """Note what is broken unless it holds."""
        if not holds:
            self.broken.append(what)


@dataclass(frozen=True)
class Fault:
    """A fault with its name in the table.

    `away` states that no cache may answer meanwhile, and `probe` that the probe ends without its last turn.
    """

    name: str
    strike: Callable[[Trial], None]
    away: bool = False
    probe: bool = False
    short: bool = True  # part of the short form
    together: str = ""  # the row that contains it with others


def faults() -> Iterator[Fault]:
    """Yield all faults in their order; the last one fills the cache."""
    for name in KILLED:
        yield Fault(f"`kill -9` of {_shown(name)}", kill(name), name == "cache", name == "probe")
    yield Fault("`kill -9` of both signature workers", kill(*GROUP))
    for number, order in enumerate(permutations(KILLED)):
        name = f"`kill -9` of {', '.join(map(_shown, order))}"
        row = "`kill -9` of all four in each order"
        yield Fault(name, kill(*order), away=True, probe=True, short=number == 0, together=row)
    yield Fault("disk full at the snapshot of a cache, which is then restarted", fill_disk, away=True)
    yield Fault("cache frozen", freeze_cache, away=True)
    yield Fault("cache frozen, with a watchdog", freeze_until_killed, away=True)
    yield Fault("a subscriber that never reads", never_read)
    yield Fault("wall clock an hour ahead", step_clock(_HOUR))
    yield Fault("wall clock two hours back", step_clock(-_HOUR))
    yield Fault("malformed requests", send_malformed)
    yield Fault("distinct names", send_names)


def _shown(name: str) -> str:
    return "a signature worker" if name in GROUP else f"the {name} worker" if name == "findings" else f"the {name}"


def kill(*names: str) -> Callable[[Trial], None]:
    """Return a fault that kills workers, each before the one before it is back."""

    def strike(trial: Trial) -> None:
        supervisor = trial.pipeline.supervisor
        if {"probe", "cache"} <= {*names}:  # the probe that vanishes is in the state
            trial.pipeline.restart("cache")
            trial.pipeline.await_all(trial.pipeline.load.sent)
        starts = {name: supervisor.workers[name].starts for name in names}
        for name in names:
            trial.pipeline.kill(name)
            trial.over = time.monotonic(), trial.pipeline.load.sent
            time.sleep(_APART)
        wait_until(lambda: all(supervisor.workers[name].starts > starts[name] for name in names), "the restarts")

    return strike


def fill_disk(trial: Trial) -> None:
    """Fill the disk of the state, let a snapshot fail, and restart the cache: it goes on from the earlier one."""
    pipeline = trial.pipeline
    pipeline.restart("cache")
    pipeline.await_all(pipeline.load.sent)
    filler = pipeline.folder / "state/filler"
    failures = pipeline.log("cache").count("state_not_saved")
    restores = pipeline.log("cache").count("state_restored")
    try:
        with filler.open("wb", buffering=0) as file:
            _fill(file.write)
        pipeline.await_sent(200)
        if trial.short:
            pipeline.restart("cache")
        else:  # the snapshot of each minute
            pipeline.wait(lambda: pipeline.log("cache").count("state_not_saved") > failures, "a snapshot")
            pipeline.kill("cache")
        pipeline.wait(lambda: pipeline.log("cache").count("state_restored") > restores, "the earlier state")
    finally:
        filler.unlink(missing_ok=True)
    trial.require(pipeline.log("cache").count("state_not_saved") > failures, "no snapshot failed: is the disk full?")


def _fill(write: Callable[[bytes], int | None]) -> None:
    for size in (1 << 20, 1 << 12, 1):
        try:
            while write(bytes(size)) == size:
                pass
        except OSError:
            continue


def freeze_cache(trial: Trial) -> None:
    """Stop the cache for a while, and let it go on."""
    trial.pipeline.supervisor.signal("cache", signal.SIGSTOP)
    time.sleep(3 if trial.short else 30)
    trial.pipeline.supervisor.signal("cache", signal.SIGCONT)


def freeze_until_killed(trial: Trial) -> None:
    """Stop the cache, until the supervisor misses its beats and replaces it."""
    supervisor = trial.pipeline.supervisor
    starts = supervisor.workers["cache"].starts
    supervisor.watchdog = 5.0 if trial.short else 30.0
    try:
        supervisor.signal("cache", signal.SIGSTOP)
        wait_until(lambda: supervisor.workers["cache"].starts > starts, "the watchdog", PATIENCE)
    finally:
        supervisor.watchdog = None


def never_read(trial: Trial) -> None:
    """Subscribe to all events, and read none of them."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger, socket.rcvhwm = 0, 1
        socket.subscribe(b"")
        socket.connect(events_address(trial.pipeline.run_dir))
        trial.pipeline.await_sent(600 if trial.short else 6000)


def step_clock(seconds: float) -> Callable[[Trial], None]:
    """Return a fault that sets the wall clocks."""

    def strike(trial: Trial) -> None:
        trial.pipeline.set_step(seconds)
        trial.pipeline.await_sent(200)

    return strike


def send_malformed(trial: Trial) -> None:
    """Send malformed requests: each of them is refused with a reply, and other clients are answered meanwhile."""
    before = trial.pipeline.counters.total()["refused"]
    address, seconds = lookups_address(trial.pipeline.run_dir), 3 if trial.short else 20
    command = [sys.executable, str(_MALFORMED), address, str(_A_SECOND), str(seconds)]
    sent = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=seconds + _LONGEST).stdout)
    refused = trial.pipeline.counters.total()["refused"] - before
    trial.extent = f"{sent['sent']:,} in {seconds} s"
    trial.require(sent["sent"], "no malformed request was sent")
    trial.require(sent["answered"] == sent["sent"] == refused, f"malformed requests: {sent}, {refused} refused")


def send_names(trial: Trial) -> None:
    """Resolve many distinct names: the cache evicts, and its memory stays within its limit."""
    pipeline = trial.pipeline
    count = 25_000 if trial.short else 1_000_000
    trial.extent = f"{count:,}"
    starts = pipeline.supervisor.workers["cache"].starts
    with pipeline.quiet():
        for first in range(0, count, _AT_ONCE):
            sent = pipeline.load.send(range(first, first + _AT_ONCE), "m{}.example".format)
            trial.further += _AT_ONCE if sent else 0
        pipeline.wait(lambda: pipeline.load.send(range(1), "last.example".format), "the probe")
        trial.further += 1
    trial.require(trial.further == count + 1, f"{trial.further} of {count + 1} names were sent")
    pipeline.wait(lambda: pipeline.counters.total()["evicted"], "an eviction")
    trial.require(pipeline.supervisor.workers["cache"].starts == starts, "the cache ended")
