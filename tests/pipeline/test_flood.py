"""Fifty thousand responses a second on the real kernel: each one is received, or counted as lost at its hop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.protocol.batches import TURN
from live.counting import SIGNATURE
from live.namespaces import Hosts, hosts, live_or_skip
from live.pipelines import pipeline
from live.processes import wait_until

pytestmark = pytest.mark.timeout(180)
RATE, SECONDS = 50_000, 5
PORT = 46353  # no other program of this host uses it
PATIENCE = 120.0  # seconds for the cache to catch up, on a busy machine


@pytest.fixture
def network() -> Iterator[Hosts]:
    """Yield a host that only this test uses."""
    live_or_skip()
    with hosts() as both:
        yield both


def test_fifty_thousand_responses_a_second_are_received_or_counted(network, tmp_path, capsys):
    """99 % reach the cache and a signature worker; received and counted losses add up to the number sent."""
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
            lambda: counted + at_probe + lost(run.stats(), "workers") == sent,
            "the signature worker to report its losses",
        )
    with capsys.disabled():
        sys.stdout.write(
            f"\nsent {sent}, cache {received(stats)}, signatures {counted}, lost {stats['lost']}, "
            f"coverage {finding['coverage']}\n"
        )
    assert received(stats) >= 0.99 * sent
    assert received(stats) + at_probe + lost(stats, "bus", "decoder") == sent
    assert counted >= 0.99 * sent


def test_the_probe_goes_first(network):
    """The probe has a higher priority than the other workers, also in its session."""
    with pipeline("--dns-ports", str(PORT), "--events", "DNS_DATA_SOURCE") as run:
        nice = {name: os.getpriority(os.PRIO_PROCESS, run.worker(name)) for name in ("probe", "cache", "signatures")}
        autogroup = Path(f"/proc/{run.worker('probe')}/autogroup")
        assert not autogroup.exists() or "nice -5" in autogroup.read_text()
    assert nice == {"probe": -5, "cache": 0, "signatures": 0}


def flood(network: Hosts) -> int:
    """Send on the loopback of a host; return the number of responses."""
    drop = ["iptables", "-A", "INPUT", "-p", "udp", "--dport", "40053", "-j", "DROP"]  # no ICMP for each of them
    assert network.on_client(*drop).returncode == 0
    sender = Path(__file__).parents[1] / "support/live/flood.py"
    command = [sys.executable, str(sender), "127.0.0.1", "127.0.0.1", str(RATE), str(SECONDS), str(PORT)]
    sent = json.loads(network.on_client(*command, timeout=60).stdout)
    assert sent["sent"] == RATE * SECONDS
    assert sent["seconds"] < SECONDS * 1.2, "the sender itself was too slow"
    return sent["sent"]


def is_counted(stats: dict, sent: int) -> bool:
    """Return true if received and lost responses add up to the number sent."""
    return received(stats) + lost(stats, "kernel", "probe", "bus", "decoder") >= sent


def received(stats: dict) -> int:
    """Return the number of responses in the image."""
    return stats["image"].get("related", 0)


def lost(stats: dict, *hops: str) -> int:
    """Return the number of events lost at some hops."""
    return sum(count for hop in hops for name, count in stats["lost"][hop].items() if name != TURN)
