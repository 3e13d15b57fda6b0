"""A whole pipeline at the rates of a workstation: processor time and memory of each worker, and the delay of findings.

A sighting is a query, or its response. Probe, cache and signature worker share the cores with the sender.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgpack
from figures import Figure, spread

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import findings_address
from dnstrail.protocol.catch_up import SETTLED
from live.namespaces import Hosts, hosts
from live.processes import run_dir, started, wait_until

RATES = (0, 100, 1000)
SECONDS = 8
PORT = 16355  # no other program of this host uses it
_SETTLE = SETTLED + 2.0  # seconds after the start: until then the cache looks for replays
_SUPPORT = Path(__file__).parents[1] / "support"
_TICK = 1e6 / os.sysconf("SC_CLK_TCK")
_MANY = 35  # responses of which one is reported: a finding costs as much as six events
_SIGNATURE = f'''"""Reports some responses."""

from dnstrail import EventSelector, Signature, SignatureMetadata


class Some(Signature):
    metadata = SignatureMetadata("B-2", "1", "Some", "SOME")
    selected_events = (EventSelector(name="net_packet_dns"),)
    seen = 0

    def on_event(self, event):
        self.seen += 1
        if self.seen % {_MANY} == 0:
            self.report(event)
'''


def measure(_capture: str) -> Iterator[Figure]:
    """Run idle, then at each rate, with the demo capture's messages; then state the memory."""
    if os.geteuid():
        yield Figure("a pipeline at low rates: needs root and eBPF", None)
        return
    with ExitStack() as stack:
        network, folder = stack.enter_context(hosts()), stack.enter_context(run_dir())
        drop = ["iptables", "-A", "INPUT", "-p", "udp", "--dport", str(PORT), "-j", "DROP"]  # no ICMP for each query
        subprocess.run(["ip", "netns", "exec", network.server, *drop], check=True)
        delays = stack.enter_context(_Delays(folder))
        file = stack.enter_context(run_dir()) / "some.py"
        file.write_text(_SIGNATURE)
        common, began = ("--run-dir", folder, "--user", "0:0"), time.monotonic()
        workers = {
            "cache": stack.enter_context(started("cache", *common)).pid,
            "signatures": stack.enter_context(
                started("signatures", *common, "--signatures", file, "--findings", findings_address(folder))
            ).pid,
            "probe": stack.enter_context(
                started("probe", *common, "--capture", "ebpf", "--dns-ports", str(PORT), "--subscribers", "2")
            ).pid,
        }
        _send(network, 100, 1, until=delays.some)
        yield Figure("seconds to the first finding", time.monotonic() - began, "s")
        time.sleep(_SETTLE)
        for rate in RATES:
            yield from _at(rate, network, workers, delays)
        for name, process in workers.items():
            yield Figure(f"memory of the {name}: resident", _memory(process, "Rss"), "MiB")
            yield Figure(f"memory of the {name}: its share", _memory(process, "Pss"), "MiB")


def _at(rate: int, network: Hosts, workers: dict[str, int], delays: _Delays) -> Iterator[Figure]:
    before = {name: _cpu(process) for name, process in workers.items()}
    delays.take()
    if rate:
        _send(network, rate, SECONDS)
    else:
        time.sleep(SECONDS)
    spent = {name: _cpu(process) - before[name] for name, process in workers.items()}
    if not rate:
        for name, cost in spent.items():
            yield Figure(f"idle: {name}", cost / SECONDS / 1e4, "% of a core")
        return
    for name, cost in spent.items():
        yield Figure(f"{rate}/s: {name}, a sighting", cost / rate / SECONDS, "us")
    yield Figure(f"{rate}/s: all workers, a sighting", sum(spent.values()) / rate / SECONDS, "us")
    time.sleep(0.5)
    yield from spread(f"{rate}/s: from the packet to its finding", delays.take(), "ms", "p50", "p99")


class _Delays:
    """The receiving end of findings, and the delays of those that arrived (ms)."""

    def __init__(self, folder: Path) -> None:
        self._bus = ZmqBus()
        self._puller = self._bus.puller(findings_address(folder))
        self._delays: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bus.close(now=True)

    def some(self) -> bool:
        """Return whether a finding has arrived."""
        return bool(self._delays)

    def take(self) -> list[float]:
        """Return the delays since the last call."""
        taken, self._delays = self._delays, []
        return taken

    def _receive(self) -> None:
        while not self._stop.is_set():
            self._bus.wait(self._puller, timeout=0.2)
            now = time.time_ns()
            while (body := self._puller.receive()) is not None:
                self._delays.append((now - msgpack.unpackb(body).get("timestamp", now)) / 1e6)


def _send(network: Hosts, rate: int, seconds: int, until: object = None) -> None:
    """Send the messages of the demo; with `until` again and again until this is true."""
    command = [sys.executable, str(Path(__file__).with_name("exchanges.py")), network.client, network.server]
    command += ["demo", str(rate), str(seconds), str(PORT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SUPPORT), os.environ.get("PYTHONPATH", "")])}

    def once() -> bool:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(result.stdout)["sent"] > 0

    if callable(until):
        wait_until(lambda: once() and until(), "the first finding")
    else:
        once()


def _cpu(process: int) -> float:
    """Return the processor time of a worker and of its relay so far, in microseconds."""
    own = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return (int(own[11]) + int(own[12])) * _TICK + sum(_cpu(int(child)) for child in children)


def _memory(process: int, field: str) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
