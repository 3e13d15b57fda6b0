"""Fifty thousand responses a second on the real kernel: each one is received, or counted as lost at its hop."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.protocol.batches import TURN, Mark, Turn, decode
from live.counting import SIGNATURE
from live.namespaces import Hosts
from live.pipelines import Run, pipeline
from live.ports import free_port
from live.processes import PATIENCE, wait_until
from live.workers import asker, open_bus

RATE, SECONDS = 50_000, 5
PORT = free_port("127.0.0.1")
LOOK = 0.1  # seconds between two looks at the lag
WANTS_NONE = """
import time
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT
from dnstrail.signature import EventSelector, Signature, SignatureMetadata

class Lag(Signature):
    metadata = SignatureMetadata("L-1", "1", "Lag", "LAG")
    selected_events = (EventSelector(name=NET_PACKET_DNS, origin="container"), EventSelector(name=SCHED_PROCESS_EXIT))

    def on_event(self, event):
        if event.process_name == "true":
            self.report(event, lag=(time.time_ns() - event.timestamp) / 1e9)
"""


def test_fifty_thousand_responses_a_second_are_received_or_counted(network, tmp_path, capsys):
    """99 % reach the cache and a signature worker; received and counted losses add up to the number sent, or more.

    The losses of the kernel also contain events of other processes of this host.
    """
    counting = tmp_path / "counting.py"
    counting.write_text(SIGNATURE)
    options = [
        "--dns-ports",
        str(PORT),
        "--dnscache",
        "enable,unmatched=accept",
        "--signatures",
        str(counting),
        "--events",
        "COUNTED",
    ]
    with pipeline(*options, "--output", "json") as run:
        sent = flood(network)
        wait_until(lambda: is_counted(run.stats(), sent), "the cache to have counted all", PATIENCE)
        stats = run.stats()
        network.on_client("true")
        wait_until(lambda: run.named("COUNTED"), "the signature worker to finish", PATIENCE)
        finding = run.named("COUNTED")[-1]
        counted = {arg["name"]: arg["value"] for arg in finding["args"]}["received"]
        at_probe = lost(stats, "kernel", "probe")
        wait_until(
            lambda: counted + at_probe + lost(run.stats(), "workers") >= sent,
            "the signature worker to report its losses",
        )
    with capsys.disabled():
        sys.stdout.write(
            f"\nsent {sent}, cache {received(stats)}, signatures {counted}, lost {stats['lost']}, "
            f"coverage {finding['coverage']}\n"
        )
    assert received(stats) >= 0.99 * sent
    assert received(stats) + at_probe + lost(stats, "bus", "cache", "decoder") >= sent
    assert counted >= 0.99 * sent


def test_a_signature_that_wants_none_of_a_flood(network, tmp_path, capsys):
    """99 % reach the cache, and a signature worker that skips them. How far both are behind is printed."""
    (tmp_path / "lag.py").write_text(WANTS_NONE)
    options = ["--dns-ports", str(PORT), "--dnscache", "enable,unmatched=accept", "--output", "json"]
    with pipeline(*options, "--signatures", str(tmp_path / "lag.py"), "--events", "LAG") as run:
        over = threading.Event()
        with ThreadPoolExecutor() as pool:
            lags = pool.submit(lags_of_cache, run, over)
            try:
                sent = flood_with_exits(network, pool)
                wait_until(lambda: is_counted(run.stats(), sent), "the cache to have counted all", PATIENCE)
            finally:
                over.set()
        wait_until(lambda: run.named("LAG"), "the signature worker", PATIENCE)
        stats = run.stats()
        behind = [arg["value"] for finding in run.named("LAG") for arg in finding["args"] if arg["name"] == "lag"]
    with capsys.disabled():
        sys.stdout.write(
            f"\nsent {sent}, cache {received(stats)}, lost {stats['lost']}, "
            f"seconds behind at most: cache {max(lags.result()):.2f}, signatures {max(behind):.2f}\n"
        )
    assert received(stats) >= 0.99 * sent
    assert lost(stats, "kernel", "probe", "workers") <= 0.01 * sent
    assert received(stats) + lost(stats, "kernel", "probe", "bus", "cache", "decoder") >= sent


def flood_with_exits(network: Hosts, pool: ThreadPoolExecutor) -> int:
    """Send the flood, and let processes exit meanwhile; return the number of responses."""
    flooding = pool.submit(flood, network)
    while not wait([flooding], LOOK).done:
        network.on_client("true")
    return flooding.result()


def lags_of_cache(run: Run, over: threading.Event) -> list[float]:
    """Return how many seconds the last turn of the cache is behind the clock, again and again."""
    stamps: dict[Mark, int] = {}
    lags = []
    with open_bus() as bus, asker(lookups_address(run.folder)) as client:
        subscriber = bus.subscriber([events_address(run.folder)], [TURN])
        while not over.is_set():
            bus.wait(subscriber, timeout=LOOK)
            while (message := subscriber.receive()) is not None:
                turn = decode(message[1], Turn)
                stamps[turn.start, turn.turn] = turn.now
            marks = client.ask("health")["data"]["turns"].items()
            lags += [(time.time_ns() - stamps[mark]) / 1e9 for mark in marks if mark in stamps]
            over.wait(LOOK)
    return lags


def test_the_probe_goes_first(network):
    """The probe has a higher priority than the other workers, also in its session."""
    with pipeline("--dns-ports", str(PORT), "--events", "DNS_DATA_SOURCE") as run:
        nice = {name: os.getpriority(os.PRIO_PROCESS, run.worker(name)) for name in ("probe", "cache", "signatures")}
        autogroup = Path(f"/proc/{run.worker('probe')}/autogroup")
        assert not autogroup.exists() or "nice -5" in autogroup.read_text()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert nice == {"probe": -5, "cache": own, "signatures": own}


def flood(network: Hosts) -> int:
    """Send on the loopback of a host; return the number of responses."""
    drop = ["iptables", "-A", "INPUT", "-p", "udp", "--dport", "40053", "-j", "DROP"]  # no ICMP for each of them
    assert network.on_client(*drop).returncode == 0
    sender = Path(__file__).parents[1] / "support/live/flood.py"
    command = [sys.executable, str(sender), "127.0.0.1", "127.0.0.1", str(RATE), str(SECONDS), str(PORT)]
    sent = json.loads(network.on_client(*command, timeout=PATIENCE).stdout)
    assert sent["sent"] == RATE * SECONDS
    return sent["sent"]


def is_counted(stats: dict, sent: int) -> bool:
    """Return true if received and lost responses add up to the number sent."""
    return received(stats) + lost(stats, "kernel", "probe", "bus", "cache", "decoder") >= sent


def received(stats: dict) -> int:
    """Return the number of responses in the image."""
    return stats["image"].get("related", 0)


def lost(stats: dict, *hops: str) -> int:
    """Return the number of events lost at some hops."""
    return sum(count for hop in hops for name, count in stats["lost"][hop].items() if name != TURN)
