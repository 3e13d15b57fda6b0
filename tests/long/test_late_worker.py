"""A signature worker that stands still for some seconds has the same answers about connections as a prompt one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from live.groups import Group, group
from live.namespaces import Hosts
from live.processes import PATIENCE, run_dir, started, wait_until
from live.stopped import frozen

CONNECTIONS = 20  # of each client
LATE = 4.0  # seconds: longer than the life of every answer, by TTL and grace
SHORT = ("--dnscache", "grace=2")  # the answers have a TTL of 0; a machine may stand still before a client connects
# Asks a name, connects to its address, and again; all names have one address.
CONNECTS = """
import socket, sys, time
for number in range(int(sys.argv[2])):
    address = socket.gethostbyname(f"{sys.argv[1]}{number}.google.com")
    socket.create_connection((address, 53)).close()
    time.sleep(0.02)
"""
NAMED = """
from dnstrail import DataNotFound, EventSelector, Signature, SignatureMetadata

class Named(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Named", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_tcp_connect"),)

    def init(self, ctx):
        super().init(ctx)
        self.dns = ctx.get_data_source("tracee", "dns")

    def on_event(self, event):
        if event.arg("dst_port") != 53:
            return
        try:
            found = dict(self.dns.get(event.arg("dst")))
        except DataNotFound:
            found = {}
        self.report(event, pid=event.process_id, number=event.timestamp, names=event.arg("dst_dns"), found=found)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with run_dir() as folder:
        yield folder


def answers(workers: Group, worker: int, clients: set[int]) -> dict[int, tuple[list[str], dict]]:
    """Return what a worker found about each connection of some processes, by the time of its event."""
    found = [{arg["name"]: arg["value"] for arg in finding["args"]} for finding in workers.findings(worker)]
    return {one["number"]: (one["names"], one["found"]) for one in found if one["pid"] in clients}


def connect(network: Hosts, name: str, count: int) -> subprocess.Popen[str]:
    """Start a client that connects to so many names."""
    return network.start_on_client(sys.executable, "-c", CONNECTS, name, str(count))


@contextmanager
def watched(network: Hosts, folder: Path) -> Iterator[Group]:
    """Run probe, cache and two signature workers, each of which handles all events; wait until both report."""
    with ExitStack() as stack:
        stack.enter_context(started("cache", "--run-dir", folder, *SHORT))
        wait_until((folder / "lookups.sock").exists, "the cache")
        stack.enter_context(started("probe", "--capture", "ebpf", "--run-dir", folder))
        wait_until((folder / "events.sock").exists, "the probe")
        workers = stack.enter_context(group(folder, 0, signature=NAMED, cache=False))
        for name in ("prompt", "late"):
            workers.start("--group", name)

        def report() -> bool:
            with connect(network, "first", 1) as client:
                client.wait(PATIENCE)
            return all(workers.count(number) for number in range(2))

        wait_until(report, "the first findings")
        yield workers


def test_a_late_worker_has_the_answers_of_a_prompt_one(network, folder):
    """A worker is stopped until all answers have ended: `dst_dns` and its lookups are those of a prompt worker."""
    expected = sorted(f"{name}{number}.google.com" for name in "ab" for number in range(CONNECTIONS))
    with watched(network, folder) as workers:
        with frozen(workers.processes[1].pid):
            with connect(network, "a", CONNECTIONS) as one, connect(network, "b", CONNECTIONS) as other:
                assert [client.wait(PATIENCE) for client in (one, other)] == [0, 0]
            clients = {one.pid, other.pid}
            wait_until(lambda: len(answers(workers, 0, clients)) == len(expected), "the findings of the prompt worker")
            time.sleep(LATE)
            assert not answers(workers, 1, clients)
        wait_until(lambda: len(answers(workers, 1, clients)) == len(expected), "the findings of the late worker")
        prompt, late = answers(workers, 0, clients), answers(workers, 1, clients)
    assert late == prompt
    assert sorted(names[0] if names else "" for names, _ in prompt.values()) == expected
    assert any(len(found["dns_queries"]) > 1 for _, found in prompt.values())
