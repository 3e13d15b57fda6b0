"""The whole pipeline on the real kernel under steady traffic: all is counted, lookups are answered, memory is flat.

It needs root. Elsewhere it says so, and ends with 0; with DNSTRAIL_REQUIRE_LIVE=1 it fails.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from exchanges import name_of

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import DataNotFound, Unavailable
from live.counting import SIGNATURE
from live.namespaces import SERVER, Hosts, dnsmasq, hosts
from live.pipelines import Run, pipeline
from live.processes import wait_until

PORT = 16453  # no other program of this host uses it
SEEN = 4  # events of one exchange: the query and the response, at the client's socket and at the server's
WORKERS = ("probe", "cache", "signatures")
EVERY = 10.0  # seconds between two readings of memory
JUDGED = 20  # minutes: a shorter run ends before the tables of the workers are full
GROWTH = 0.05  # of the peak of the second half of a run over that of the second quarter
BETWEEN = 0.02  # seconds between two lookups
AGO = 1000  # exchanges since the one whose name is looked up
PATIENCE = 60.0  # seconds for all workers to catch up
MIB = 2**20


def main() -> int:
    """Run for some minutes, and print a table; return 1 if something was lost, not answered, or grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rate", type=int, default=300, help="questions a second")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("pipeline: not run, since it needs root")
        return bool(os.environ.get("DNSTRAIL_REQUIRE_LIVE"))
    print(f"\nthe pipeline, {options.rate} exchanges a second for {options.minutes:g} minutes")
    with _running() as (network, run), tempfile.NamedTemporaryFile() as progress:
        seconds = options.minutes * 60
        memory, looked, sent = _observe(network, run, options.rate, seconds, Path(progress.name))
        lost = _count_all(network, run, sent)
    holds = [looked.is_answered(lost), _is_flat(memory, options.minutes)]
    return 0 if all(holds) else 1


class Looked(NamedTuple):
    """The times of lookups (ms), and how many had no answer of the cache, or did not find their name."""

    times: list[float]
    unavailable: int
    missing: int

    def is_answered(self, lost: int) -> bool:
        """Print the lookups; return whether each was answered, and no more names are missing than events were lost."""
        times = sorted(self.times)
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"  {len(times):,} lookups, {self.unavailable} without an answer, {self.missing} not found")
        print(f"  p50 {p50:.1f}, p99 {p99:.1f}, longest {times[-1]:.0f} ms")
        return not self.unavailable and self.missing <= lost


@contextmanager
def _running() -> Iterator[tuple[Hosts, Run]]:
    """Yield the hosts and the pipeline that watches them."""
    with tempfile.TemporaryDirectory() as made, hosts() as network:
        signature = Path(made) / "counting.py"
        signature.write_text(SIGNATURE)
        Path(made).chmod(0o755)
        options = ("--dns-ports", str(PORT), "--signatures", str(signature), "--events", "COUNTED", "--output", "json")
        with dnsmasq(network.server, SERVER, PORT, "/soak.example/198.18.0.1"), pipeline(*options) as run:
            yield network, run


def _observe(
    network: Hosts, run: Run, rate: int, seconds: float, progress: Path
) -> tuple[dict[str, list[int]], Looked, dict[str, int]]:
    """Let traffic run; return the memory of each worker, the lookups meanwhile, and what was sent."""
    memory: dict[str, list[int]] = {name: [] for name in WORKERS}
    over = threading.Event()
    script = str(Path(__file__).with_name("exchanges.py"))
    asking = [sys.executable, script, SERVER, str(PORT), str(rate), str(progress)]
    command = ["ip", "netns", "exec", network.client, *asking]
    with ThreadPoolExecutor() as pool, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
        looking = pool.submit(_look_up, run, progress, over)
        try:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(EVERY, left))
                for name, sizes in memory.items():
                    sizes.append(_resident(run.worker(name)))
        finally:
            over.set()
            sender.send_signal(signal.SIGTERM)
        sent = json.loads(sender.communicate(timeout=PATIENCE)[0])
        looked = looking.result()
    return memory, looked, sent


def _look_up(run: Run, progress: Path, over: threading.Event) -> Looked:
    """Look up names that were answered a while ago."""
    client = LookupClient(lookups_address(run.folder))
    times: list[float] = []
    unavailable = missing = 0
    while not over.wait(BETWEEN):
        asked = int.from_bytes(progress.read_bytes(), "big")
        if asked <= AGO:
            continue
        at = time.monotonic()
        try:
            client.request("get", key=name_of(asked - AGO))
        except DataNotFound:
            missing += 1
        except Unavailable:
            unavailable += 1
        times.append((time.monotonic() - at) * 1000)
    client.close()
    return Looked(times, unavailable, missing)


def _count_all(network: Hosts, run: Run, sent: dict[str, int]) -> int:
    """Wait until what the cache and a signature worker received, and the losses, are all; return the losses."""
    expected = SEEN * (sent["asked"] - sent["unanswered"])

    def received() -> int:
        return int(run.stats()["image"]["messages"])

    def lost() -> int:
        return int(run.stats()["lost"]["total"])

    wait_until(lambda: received() + lost() >= expected, "the cache", PATIENCE)
    network.on_client("true")
    wait_until(lambda: run.named("COUNTED") and _counted(run) + lost() >= expected, "the signatures", PATIENCE)
    print(f"  {sent['asked']:,} exchanges, {sent['unanswered']} unanswered, {expected:,} events expected")
    print(f"  received: cache {received():,}, signatures {_counted(run):,}; lost and counted: {lost():,}")
    return lost()


def _counted(run: Run) -> int:
    return max(arg["value"] for one in run.named("COUNTED") for arg in one["args"] if arg["name"] == "received")


def _is_flat(memory: dict[str, list[int]], minutes: float) -> bool:
    """Print the memory of each worker; return whether it is flat, if the run was long enough to tell."""
    flat = True
    for name, sizes in memory.items():
        quarter = max(len(sizes) // 4, 1)
        growth = max(sizes[2 * quarter :]) / max(sizes[quarter : 2 * quarter + 1]) - 1
        flat = flat and growth < GROWTH
        first, peak = sizes[0] / MIB, max(sizes) / MIB
        print(f"  {name}: {first:.1f} MiB at first, peak {peak:.1f} MiB, second half {growth:+.1%}")
    return flat or minutes < JUDGED


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
