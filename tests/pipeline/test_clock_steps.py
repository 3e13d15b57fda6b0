from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import dns.message
import pytest

from dnstrail.captured import Captured
from dnstrail.events import SCHED_PROCESS_EXEC, SCHED_PROCESS_EXIT
from dnstrail.process.clock import StreamClock
from live.ebpf_source import Watching, watching
from live.namespaces import live_or_skip
from live.workers import SteppedClock


@pytest.fixture(scope="module")
def host() -> SteppedClock:
    """Return the clock of the host, which a test may set ahead or back."""
    return SteppedClock()


@pytest.fixture(scope="module")
def seen(host: SteppedClock) -> Iterator[Watching]:
    """Yield an eBPF source whose clock a test can set."""
    live_or_skip()
    with watching(clock=StreamClock(host)) as started:
        yield started


def query(seen: Watching, name: str) -> Captured:
    """Send a query that nobody answers, and return its event."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(dns.message.make_query(name, "A").to_wire(), ("127.0.0.1", 53))
    seen.until(lambda: seen.about(name), f"the query for {name}")
    return seen.about(name)[0]


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_of_the_wall_clock_moves_no_event(seen, host, step):
    """Packets and processes have times of the stream, before and after a step; a process keeps its start."""
    clock = seen.source._clock
    times = [clock.now()]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        seen.until(lambda: seen.of(process.pid, SCHED_PROCESS_EXEC), "the start of the process")
        times += [query(seen, f"before{step}.test").timestamp, clock.now()]
        host.step += step
        times += [query(seen, f"after{step}.test").timestamp, clock.now()]
    seen.until(lambda: seen.of(process.pid, SCHED_PROCESS_EXIT), "the end of the process")
    [started], [ended] = seen.of(process.pid, SCHED_PROCESS_EXEC), seen.of(process.pid, SCHED_PROCESS_EXIT)
    times += [ended.timestamp, clock.now()]
    assert times == sorted(times)
    assert times[0] <= started.timestamp <= times[1]
    assert started.process.start_time == ended.process.start_time
    assert started.process.start_time == pytest.approx(started.timestamp, abs=60 * 10**9)
