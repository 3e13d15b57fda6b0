"""Live capture of a sender in a namespace: the sightings a second that probe and cache take together on one core.

A sighting is a query, or its response.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from baselines import parse_cost
from figures import Figure
from live_events import of_capture

from dnstrail.bus.ipc import lookups_address
from live.namespaces import Hosts, hosts
from live.processes import run_dir, started, wait_until
from live.workers import asker

RATES = (20_000, 30_000, 40_000, 50_000, 70_000, 100_000, 130_000, 160_000, 200_000)
SECONDS = 2
BEHIND = 0.2  # seconds that the cache may be behind the sender at its end
PATIENCE = 30.0
PORT = 16354  # no other program of this host uses it
_OURS, _CORES = {1}, 2  # the core of probe and cache; the sender has the other
_SENDER = ("taskset", "-c", "0", sys.executable, str(Path(__file__).with_name("exchanges.py")))
_SUPPORT = Path(__file__).parents[1] / "support"


class Outcome(NamedTuple):
    """The result of sending at one rate."""

    rate: float  # sightings a second that were sent
    lost: int
    behind: float  # seconds from the last message until all were counted
    costs: tuple[float, ...]  # CPU time for a sighting in microseconds, of the probe and of the cache


def measure(capture: str) -> Iterator[Figure]:
    """Send at rising rates until a sighting is lost, or the cache is late."""
    if os.geteuid() or (os.cpu_count() or 1) < _CORES:
        yield Figure("sightings a second: needs root, eBPF and two cores", None)
        return
    best, failed = Outcome(0, 0, 0, (0, 0)), None
    with hosts() as network, _workers() as workers:
        drop = ["iptables", "-A", "INPUT", "-p", "udp", "--dport", str(PORT), "-j", "DROP"]  # no ICMP for each query
        subprocess.run(["ip", "netns", "exec", network.server, *drop], check=True)
        for rate in RATES:
            outcome = _send(network, workers, capture, rate)
            if outcome.lost or outcome.behind > BEHIND:
                failed = outcome
                break
            best = outcome
    yield Figure(f"sightings a second, none lost, less than {BEHIND} s behind", best.rate)
    parse = parse_cost([event.payload for event in of_capture(capture)])
    yield Figure("against those that dnspython parses on one core", best.rate * parse / 1e6, "times")
    yield Figure("seconds behind at this rate", best.behind, "s")
    for worker, cost in zip(("probe", "cache"), outcome.costs, strict=True):
        yield Figure(f"CPU of the {worker} for a sighting at the last rate", cost, "us")
    if failed:
        yield Figure("the next rate", failed.rate)
        yield Figure("the next rate: lost", failed.lost)
        yield Figure("the next rate: seconds behind", failed.behind, "s")


class _Workers(NamedTuple):
    folder: Path
    processes: tuple[int, int]

    def ask(self, operation: str) -> dict[str, Any]:
        """Ask the cache."""
        with asker(lookups_address(self.folder)) as client:
            data: dict[str, Any] = client.ask(operation)["data"]
            return data

    @property
    def counts(self) -> tuple[int, int]:
        """The messages that reached the image, and those lost at any hop."""
        stats = self.ask("stats")
        return stats["image"].get("messages", 0), stats["lost"]["total"]

    @property
    def cpu(self) -> list[float]:
        """The CPU time of the probe and of the cache so far, in microseconds."""
        tick = 1e6 / os.sysconf("SC_CLK_TCK")
        fields = [Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split() for process in self.processes]
        return [(int(field[11]) + int(field[12])) * tick for field in fields]


@contextmanager
def _workers() -> Iterator[_Workers]:
    """Run a probe and a cache on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _OURS)  # the children inherit it
    with run_dir() as folder:
        common = ("--run-dir", folder, "--user", "0:0")
        with started("cache", *common) as cache:
            source = ("--capture", "ebpf", "--dns-ports", str(PORT))
            with started("probe", *common, *source, "--subscribers", "1") as probe:
                os.sched_setaffinity(0, allowed)
                wait_until((folder / "lookups.sock").exists, "the cache")
                workers = _Workers(folder, (probe.pid, cache.pid))
                wait_until(lambda: workers.ask("health")["status"] == "ok", "the probe")
                yield workers


def _send(network: Hosts, workers: _Workers, capture: str, rate: int) -> Outcome:
    """Send for a while; wait until each message has reached the image, or is counted as lost."""
    before, spent = workers.counts, workers.cpu
    command = [*_SENDER, network.client, network.server, capture, str(rate), str(SECONDS), str(PORT)]
    environment = {**os.environ, "PYTHONPATH": str(_SUPPORT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30 * SECONDS)
    ended, sent = time.monotonic(), json.loads(result.stdout)
    while sum(after := workers.counts) - sum(before) < sent["sent"] and time.monotonic() - ended < PATIENCE:
        time.sleep(0.01)
    behind = time.monotonic() - ended
    costs = tuple((now - then) / sent["sent"] for now, then in zip(workers.cpu, spent, strict=True))
    return Outcome(sent["sent"] / sent["seconds"], after[1] - before[1], behind, costs)
