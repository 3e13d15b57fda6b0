"""Many hosts at one cache and a group of signature workers: what is handled, complete and counted, and what it costs.

    python tests/bench/many_hosts.py [--hosts 10,64,65,300,1000] [--seconds 20] [--rate 1] [--keyed]

The workers are real processes. Each host has a publisher with addresses of its own; a few processes play them. The cost
of a worker includes that of its relay.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import LookupClient
from dnstrail.errors import DataNotFound
from dnstrail.protocol.catch_up import SETTLED
from live.many_hosts import ManyHosts, many_hosts
from live.processes import run_dir, used_with_children, wait_until

WORKERS = 2
_PATIENCE = 400.0  # seconds for all to be connected, or handled
_SIGNATURE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Seen(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Seen", event_name="SEEN")
    selected_events = (EventSelector(name="net_packet_dns"),)
"""


def main() -> None:
    """Measure each number of hosts, and print a row of the table for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", default="10,64,65,300,1000")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of processor time")
    parser.add_argument("--rate", type=float, default=1.0, help="answers a second of each host under load")
    parser.add_argument("--keyed", action="store_true", help="publish over CURVE, with a key for each host")
    given = parser.parse_args()
    print(
        "| hosts | turns handled | marked lookups complete | open turns complete | withheld batches counted "
        "| cache idle | cache loaded | a worker idle | a worker loaded | SIGTERM |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for hosts in map(int, given.hosts.split(",")):
        print(_row(hosts, given.seconds, given.rate, keyed=given.keyed), flush=True)


def _row(hosts: int, seconds: float, rate: float, *, keyed: bool) -> str:
    with ExitStack() as stack:
        folder = stack.enter_context(run_dir())
        played = stack.enter_context(many_hosts(folder.parent if keyed else folder, hosts, keyed=keyed))
        cache = stack.enter_context(_quiet("cache", folder, played))
        signature = folder.parent / "seen.py"
        signature.write_text(_SIGNATURE)
        signature.chmod(0o644)
        options = ("--signatures", signature, "--select", "SEEN")
        workers = [stack.enter_context(_quiet("signatures", folder, played, *options)) for _ in range(WORKERS)]
        client = LookupClient(lookups_address(folder), timeout=20.0)
        stack.callback(client.close)
        wait_until(lambda: played.subscribers > WORKERS, "the subscribers", _PATIENCE)
        wait_until(lambda: len(_members(client)) == WORKERS, "the members", _PATIENCE)
        wait_until(lambda: _heard(client) == hosts, "all hosts", _PATIENCE)
        time.sleep(SETTLED)  # until then the cache may ask probes for turns
        idle = _costs([cache, *workers], seconds)
        played.tell(rate=rate)
        loaded = _costs([cache, *workers], seconds)
        played.tell(rate=0)
        handled = _handled(client, played)
        marked, opened = _complete(client, played, hosts)
        lost = _withheld(client, played, hosts)
        ended = _ends(workers)
        cells = [f"{hosts:,}", handled, marked, opened, lost, *_shown(idle, loaded), f"{ended:.1f} s"]
        return f"| {' | '.join(cells)} |"


@contextmanager
def _quiet(worker: str, folder: Path, played: ManyHosts, *options: str | Path) -> Any:
    """Run a worker whose log nobody reads."""
    command = [sys.executable, "-m", "dnstrail_cli", worker, "--run-dir", folder, *played.subscriptions, *options]
    log = folder.parent / f"{worker}-{time.monotonic_ns()}.log"
    with log.open("wb") as stderr:
        environment = {**os.environ, **played.environment}
        process = subprocess.Popen([*map(str, command)], env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _members(client: LookupClient) -> dict[str, Any]:
    try:
        groups = client.request("stats")["data"]["groups"]
    except Exception:  # noqa: BLE001 - the cache starts
        return {}
    return {name: member for group in groups.values() for name, member in group["members"].items()}


def _heard(client: LookupClient) -> int:
    data: dict[str, Any] = client.request("health")["data"]
    return len(data["turns"])


def _costs(processes: list[subprocess.Popen[bytes]], seconds: float) -> list[float]:
    """Return the share of a core that each process takes."""
    pids = [process.pid for process in processes]
    before, began = [*map(used_with_children, pids)], time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return [(now - then) / passed for now, then in zip(map(used_with_children, pids), before, strict=True)]


def _shown(idle: list[float], loaded: list[float]) -> list[str]:
    costs = [idle[0], loaded[0], max(idle[1:]), max(loaded[1:])]
    return [f"{cost:.1%}" for cost in costs]


def _handled(client: LookupClient, played: ManyHosts) -> str:
    """Return the share of the published events that the group handled, and how many it handled twice."""
    published = played.published

    def counts() -> tuple[int, int]:
        members = _members(client).values()
        return sum(one["handled"] for one in members), sum(one["handled_twice"] for one in members)

    deadline = time.monotonic() + _PATIENCE / 4
    while counts()[0] < published and time.monotonic() < deadline:
        time.sleep(0.5)
    handled, twice = counts()
    return f"{handled / published:.1%} of {published:,}" + (f" ({twice} twice)" if twice else "")


def _complete(client: LookupClient, played: ManyHosts, hosts: int) -> tuple[str, str]:
    """Return the shares of complete lookups after fresh answers, and after the open turns of idle hosts."""
    asked = [host % hosts for host in range(0, max(hosts, 100), max(hosts // 200, 1))]
    counts = {False: 0, True: 0}
    for number, host in enumerate(asked):
        name = f"marked{number}.test"
        [(start, turn)] = played.answer([(host, name)]).values()
        for opened in (False, True):
            counts[opened] += _is_complete(client, name, (start, turn + opened))
    return tuple(f"{counts[opened]} of {len(asked)}" for opened in (False, True))


def _is_complete(client: LookupClient, name: str, mark: tuple[str, int]) -> bool:
    try:
        return bool(client.request("get", key=name, after=[mark])["complete"])
    except DataNotFound:
        return False


def _withheld(client: LookupClient, played: ManyHosts, hosts: int) -> str:
    """Withhold one batch of each of some hosts, and return how many of them the cache counts as lost."""

    def lost() -> int:
        counted: dict[str, int] = client.request("stats")["data"]["lost"]["bus"]
        return counted.get("net_packet_dns", 0)

    before, chosen = lost(), range(0, hosts, max(hosts // 120, 1))
    played.answer([(host, "withheld.test") for host in chosen], lost=True)
    played.answer([(host, "last.test") for host in chosen])
    deadline = time.monotonic() + 10.0
    while lost() - before < len(chosen) and time.monotonic() < deadline:
        time.sleep(0.1)
    return f"{lost() - before} of {len(chosen)}"


def _ends(workers: list[subprocess.Popen[bytes]]) -> float:
    """Return the seconds until the signature workers have ended at a signal; infinity beyond 30 s."""
    began = time.monotonic()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(max(began + 30.0 - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            return float("inf")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
