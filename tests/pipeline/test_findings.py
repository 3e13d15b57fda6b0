"""Findings from the bus to a file, through two signature workers, a cache and the worker of findings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import findings_address, lookups_address
from dnstrail.client import LookupClient
from dnstrail.events import FINDINGS_LOST
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.worker import FindingsWorker
from dnstrail_findings.worker import run as run_findings
from live.groups import events, group
from live.processes import run_dir, started
from live.workers import BOUND, asker, exchange, probe, running, short_folder, wait_until

RECORDS = ("updates.example 60 CNAME relay.c2.example.", "relay.c2.example 60 A 198.51.100.66")


@contextmanager
def findings(folder: Path, *outputs: str) -> Iterator[FindingsWorker]:
    """Run the worker of findings."""
    made: list[FindingsWorker] = []

    def target(bus: ZmqBus, stop: threading.Event) -> None:
        client = LookupClient(lookups_address(folder), bus=bus, timeout=BOUND)
        puller = bus.puller(findings_address(folder))
        parsed = [parse_target(output) for output in outputs]
        run_findings(bus, puller, make_outputs(parsed), stop, lookups=client, observe=made.append)

    with running(target):
        wait_until(lambda: made, "the worker")
        yield made[0]


def test_two_workers_that_report_one_finding_write_one_line() -> None:
    """Two workers handle the same event: its finding is written once to each output, with its path."""
    with short_folder() as folder, ExitStack() as stack:
        json_file, text_file = folder / "findings.jsonl", folder / "findings.txt"
        stack.enter_context(started("cache", "--run-dir", folder))
        wait_until((folder / "facts.sock").exists, "the cache")
        sink = stack.enter_context(findings(folder, f"file:{json_file}", f"file:{text_file},format=text"))
        options = ("--group", "none", "--findings", findings_address(folder), "--run-dir", folder)
        for _ in range(2):
            worker = stack.enter_context(started("signatures", *options))
            assert '"ready"' in worker.stderr.readline()
        publishing = stack.enter_context(probe(folder, subscribers=3))
        publishing.turn(*exchange("updates.example", *RECORDS))
        wait_until(lambda: sink.counters["duplicate"] == 1, "the second report")
        wait_until(lambda: all(output.counters["written"] == 1 for output in sink.outputs), "both outputs")
        [finding] = map(json.loads, json_file.read_text().splitlines())
        [line] = text_file.read_text().splitlines()
    assert finding["trail"]["path"] == "updates.example CNAME relay.c2.example A 198.51.100.66"
    assert finding["next"][0].startswith("dnstrail trail 198.51.100.66 --at ")
    assert " MEDIUM WATCHED_NAME id=" in line


def test_findings_that_wait_for_a_worker_that_is_away_are_counted_at_the_end() -> None:
    """A signature worker that ends while the worker of findings is away counts the findings that wait for it."""
    with run_dir() as folder, group(folder, 1, options=("--findings", findings_address(folder))) as workers:
        with probe(folder, live=True, subscribers=2) as publishing:
            publishing.turn(*events(0, 20))
            wait_until(lambda: [one["handled"] for one in workers.members().values()] == [20], "the events")
        workers.processes[0].terminate()
        assert workers.processes[0].wait(BOUND) == 0
        with asker(lookups_address(folder)) as client:
            lost = {FINDINGS_LOST: 20}
            wait_until(lambda: client.ask("stats")["data"]["lost"]["workers"] == lost, "the last report of the worker")
