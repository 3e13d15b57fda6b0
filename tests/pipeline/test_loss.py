"""Workers that are stopped for a while: every event that they miss is counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.bus import Puller
from dnstrail.bus.ipc import events_address, findings_address, lookups_address
from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.protocol.batches import TURN, unpack
from live.counting import SIGNATURE
from live.processes import run_dir, started, wait_until
from live.stopped import frozen
from live.workers import Asker, Probe, asker, open_bus, response, seen

A_COM = response("a.com", "a.com 60 A 192.0.2.1")
BATCHES = 25_000  # more than the queues of both ends and the socket between them hold
EXIT = SCHED_PROCESS_EXIT, Captured(1_000_000_000, process=Process(name="true"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder for sockets."""
    with run_dir() as folder:
        yield folder


def flood(probe: Probe) -> int:
    """Publish turns of one to five messages without waiting, as a live probe does. Gives the number of messages."""
    sent = 0
    for number in range(BATCHES):
        count = number % 5 + 1
        probe.turn(*[seen(A_COM, 1000 + number)] * count)
        sent += count
    return sent


def test_frozen_workers_count_what_they_missed(folder):
    """At a stopped cache and a stopped signature worker, received and lost events add up to those sent."""
    (folder / "counting.py").write_text(SIGNATURE)
    signatures = ["--signatures", folder / "counting.py", "--select", "COUNTED"]
    folder.chmod(0o755)  # the workers of root change their user
    folder = folder / "run"
    found: list[dict] = []
    with open_bus() as bus:
        findings = bus.puller(findings_address(folder))
        publisher = bus.publisher(events_address(folder), lossless=False)
        probe = Probe(publisher, "start", live=True)
        with (
            started("cache", "--run-dir", folder, "--dnscache", "unmatched=accept") as cache,
            started("signatures", "--run-dir", folder, *signatures, "--findings", findings_address(folder)) as worker,
            asker(lookups_address(folder)) as client,
        ):
            wait_until(lambda: publisher.subscribers(TURN) == 2, "the subscribers")
            probe.turn()
            wait_until(lambda: client.ask("stats")["data"]["probes"], "the cache to hear the probe")
            with frozen(cache.pid, worker.pid):
                sent = flood(probe)

            exits = itertools.count(1)
            wait_until(
                lambda: next(exits) and probe.turn(EXIT) and has_a_loss(findings, found), "a finding with a loss"
            )
            wait_until(lambda: all_counted(client, sent), "the cache to count what it missed")
            received = {arg["name"]: arg["value"] for arg in found[-1]["args"]}["received"]
            wait_until(
                lambda: probe.turn() and received + missed_by_workers(client) == sent,
                "the report of the worker",
            )
            stats = client.ask("stats")["data"]
    lost = stats["lost"]["bus"]["net_packet_dns"]
    assert 0 < lost < sent
    assert stats["image"]["messages"] + lost == sent
    assert 0 < received < sent
    most = next(exits)  # EXITs that are in it, too: many on a busy host
    assert received / sent - 0.01 <= found[-1]["coverage"] <= (received + most) / (sent + most) + 0.01


def has_a_loss(findings: Puller, found: list[dict]) -> bool:
    """Receive findings; whether the last one has a coverage below 1."""
    while (body := findings.receive()) is not None:
        found.append(unpack(body))
    return bool(found) and found[-1]["coverage"] < 1


def all_counted(client: Asker, sent: int) -> bool:
    """Whether the messages that the cache applied and missed add up to those sent."""
    stats = client.ask("stats")["data"]
    return stats["image"].get("messages", 0) + stats["lost"]["bus"].get("net_packet_dns", 0) == sent


def missed_by_workers(client: Asker) -> int:
    """Return the number of messages that the signature worker reported as missed."""
    return client.ask("stats")["data"]["lost"]["workers"].get("net_packet_dns", 0)
