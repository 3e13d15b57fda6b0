"""Pods at a steady rate, each with a container that asks one name and ends: its events have its own name.

A containerd of its own makes the pods by its Container Runtime Interface, as a kubelet does. At the end name and image
of each container in the events are compared with the list of the runtime. It needs root.

With --prepared, all pods and containers are made first, the pods stay, and the rate is that of the starts. This,
--runtime crun and --snapshotter overlayfs with --place /dev/shm leave less work for the runtime.

With --api-server, the probe also requests the owner of each pod from an HTTPS server that answers as the API server of
Kubernetes is documented to, or never.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from live.api_server import api_server, owned, owner
from live.containerd import Containerd, containerd
from live.ebpf_source import cgroup
from live.pipelines import Run, pipeline
from live.processes import processor_time, run_dir, wait_until

FACTS = ("--capture", "ebpf", "--output", "json", "--events", "dns_transaction")
DOMAIN = "soak.test"
NAMESPACES = 7
KEY = "k8s.deployment.name"
ANSWERS, HANGS = "answers", "hangs"


def main() -> int:
    """Make the pods, and print what their events state; return 1 if one is missing, or states another name or none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20, help="pods a second")
    parser.add_argument("--threads", type=int, default=12, help="pods that are made at once")
    parser.add_argument("--prepared", action="store_true", help="make all pods and containers before the first start")
    parser.add_argument("--runtime", default="runc", choices=("runc", "crun"), help="program that makes the containers")
    parser.add_argument("--snapshotter", default="native")
    parser.add_argument("--place", type=Path, default="/tmp", help="folder for the folder of the containerd")
    parser.add_argument("--api-server", choices=(ANSWERS, HANGS), help="request owners from a server of this kind")
    options = parser.parse_args()
    made_by = containerd(options.runtime, options.snapshotter, options.place)
    with ExitStack() as stack, cgroup(f"dnstrail-pods-{os.getpid()}") as own, made_by as daemon:
        settings = () if options.api_server is None else with_owners(stack, options.pods, options.api_server)
        os.environ["CONTAINER_RUNTIME_ENDPOINT"] = f"unix://{daemon.socket}"
        (own / "cgroup.procs").write_text(str(daemon.process.pid))  # with what it starts, but for the containers
        with pipeline(*FACTS, *settings) as run:
            pods = Pods(daemon, options.threads, options.prepared)
            ready = pods.prepare(options.pods)
            before = used(own), processor_time(run.worker("probe")).used
            made, seconds = pods.ask(ready, options.pods, options.rate)
            with suppress(AssertionError):  # the comparison counts those that are missing
                wait_until(lambda: len(facts(run)) >= options.pods, "the facts")
            lives = sorted(daemon.lifetime(container) or 0.0 for container in made.values())
            p50, p99 = (1000 * lives[len(lives) * percent // 100] for percent in (50, 99))
            load = os.getloadavg()[0]
            print(f"{len(made)} pods in {seconds:.0f} s: {len(made) / seconds:.1f} a second, load {load:.1f}")
            print(f"  a container lives {p50:.0f} ms (median), {p99:.0f} ms (p99)")
            of_runtime = 1e3 * (used(own) - before[0]) / len(made)
            of_probe = 1e3 * (processor_time(run.worker("probe")).used - before[1]) / len(made)
            print(f"  processor time for a pod: runtime {of_runtime:.0f} ms, probe {of_probe:.0f} ms")
            return compare(run, daemon, made)


def with_owners(stack: ExitStack, pods: int, kind: str) -> tuple[str, ...]:
    """Start a server with an owner for each pod, and name it to the probe; return the option for its settings."""
    server = stack.enter_context(api_server(stack.enter_context(run_dir())))
    os.environ.update(server.variables)
    for number in range(pods):
        namespace = f"namespaces/shop-{number % NAMESPACES}"
        path = f"/api/v1/{namespace}/pods/web-{number}"
        server.objects[path] = owned(f"web-{number}", owner("ReplicaSet", f"set-{number}"))
        if kind == HANGS:
            server.objects[path] = _hang
        deployment = owner("Deployment", f"deployment-{number}")
        server.objects[f"/apis/apps/v1/{namespace}/replicasets/set-{number}"] = owned(f"set-{number}", deployment)
    (server.account / "settings.toml").write_text(f'[probe]\nlabel = ["{KEY}"]\n')
    return "--config", str(server.account / "settings.toml")


def _hang(_handler: object) -> None:
    time.sleep(600)


def used(folder: Path) -> float:
    """Return the seconds of processor time of the processes that were in a cgroup."""
    return int((folder / "cpu.stat").read_text().split()[1]) / 1e6


class Pods:
    """Makes pods and their containers, at most `threads` at once; with `prepared`, all are made before they start."""

    def __init__(self, daemon: Containerd, threads: int, prepared: bool) -> None:
        self._daemon = daemon
        self._threads = threads
        self._prepared = prepared

    def prepare(self, pods: int) -> list[str]:
        """Return a container for each pod that is made before its start."""
        with ThreadPoolExecutor(self._threads) as pool:
            return [*pool.map(lambda number: self._make(number)[1], range(pods))] if self._prepared else []

    def ask(self, ready: list[str], pods: int, rate: float) -> tuple[dict[str, str], float]:
        """Start the containers; return the one that asks each name, and the seconds from the first to the last."""
        begin = time.monotonic()

        def live(number: int) -> tuple[str, str]:
            time.sleep(max(begin + number / rate - time.monotonic(), 0))
            pod, container = (None, ready[number]) if ready else self._make(number)
            self._daemon.start(container)
            if pod is not None:
                self._wait(container)
                self._daemon.stop_pod(pod)
            return _name(number), container

        with ThreadPoolExecutor(self._threads) as pool:
            made, seconds = dict(pool.map(live, range(pods))), time.monotonic() - begin
        for container in ready:
            self._wait(container)
        return made, seconds

    def _make(self, number: int) -> tuple[tuple[str, bytes], str]:
        pod = self._daemon.make_pod(f"web-{number}", f"shop-{number % NAMESPACES}")
        return pod, self._daemon.make_resolver(pod, "nginx", _name(number))

    def _wait(self, container: str) -> None:
        wait_until(lambda: self._daemon.lifetime(container) is not None, "the end of a container")


def _name(number: int) -> str:
    """Return the name that the container of a pod asks."""
    return f"n{number}.{DOMAIN}"


def facts(run: Run) -> list[dict]:
    """Return the events of the pods."""
    return run.containing(f'.{DOMAIN}"')


def compare(run: Run, daemon: Containerd, made: dict[str, str]) -> int:
    """Compare the events with the list of the runtime; return 1 if they differ."""
    listed = daemon.listed()
    found: Counter[str] = Counter()
    asked, wrong = set(), 0
    for fact in facts(run):
        name = next(one["value"] for one in fact["args"] if one["name"] == "name")
        container = fact["container"]
        stated = container.get("name", ""), container.get("image", "")
        asked.add(name)
        deployment = container.get("labels", {}).get(KEY)
        right = deployment == f"deployment-{name.split('.')[0][1:]}"
        found["owners"] += right
        wrong += deployment is not None and not right
        if fact["containerId"] != made[name]:
            found["events of another container, or none"] += 1
        elif stated == listed[made[name]]:
            found["events as the runtime lists them"] += 1
        else:
            found["events without a name" if stated == ("", "") else "events with another name"] += 1
    print(f"{found.pop('owners'):6} events with the owner that the API server states, {wrong} with another one")
    found["pods without an event"] = len(made.keys() - asked)
    counters = {name: value for probe in run.stats()["probes"].values() for name, value in probe.items()}
    for what, count in found.items():
        print(f"{count:6} {what}")
    print(f"{counters.get('container_names_late', 0):6} containers in batches without a name, since the reply was late")
    print(f"{counters.get('container_names_failed', 0):6} requests for a name that failed, of other containers, too")
    print(f"{counters.get('pod_owners_failed', 0):6} requests for an owner that failed")
    right = found["events as the runtime lists them"]
    return 0 if not wrong and right == found.total() >= len(made) == len(asked) else 1


if __name__ == "__main__":
    sys.exit(main())
