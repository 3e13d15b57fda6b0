"""A group of signature workers at 1,000 events a second: one is killed, one joins, and a signature counts by client.

DNSTRAIL_PACED_EVENTS sets the number of events. With it, all of them come at this rate; else those that come until the
new worker has its share are few, so that a slow machine handles them.
"""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

import pytest

from live.groups import events, group, numbers
from live.processes import run_dir, wait_until
from live.workers import probe

RATE = 1000  # events a second
TURN = 10  # events, those of ten milliseconds
EVENTS = int(os.environ.get("DNSTRAIL_PACED_EVENTS", "1000"))
JOINING = RATE if "DNSTRAIL_PACED_EVENTS" in os.environ else 100  # events a second until the new worker has its share
CLIENTS = 500
ALONE = 3  # the place of the worker that is alone
COUNTING = """
from collections import Counter
from dnstrail import EventSelector, Signature, SignatureMetadata

class Counting(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Counting", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def init(self, ctx):
        super().init(ctx)
        self.counts = Counter()

    def on_event(self, event):
        client = event.arg("dst")
        self.counts[client] += 1
        self.report(event, number=event.captured.processor, client=client, count=self.counts[client])
"""


class Paced:
    """The events of a run: published at a steady rate, in turns."""

    def __init__(self, publishing) -> None:
        self._publishing = publishing
        self.played = 0
        self._next = time.monotonic()

    def play(self, count, rate=RATE):
        """Publish events; return after the last one."""
        for _ in range(0, count, TURN):
            time.sleep(max(self._next - time.monotonic(), 0))
            self._next = max(self._next, time.monotonic() - 1.0) + TURN / rate  # up to a second is caught up
            self._publishing.turn(*events(self.played, TURN, CLIENTS, time.time_ns()))
            self.played += TURN


@pytest.fixture
def run():
    """Three workers with a signature that counts, and a fourth one that handles all events alone."""
    with run_dir() as folder, group(folder, 3, signature=COUNTING) as workers:
        workers.start("--group", "none")
        with probe(folder, live=True, subscribers=5) as publishing:
            publishing.publisher.linger(1.0)  # nobody reads what waits for a killed worker
            yield workers, Paced(publishing)


class Count(NamedTuple):
    """A finding: the place of its event in the stream, what its worker counted until then, and since when."""

    number: int
    client: str
    count: int
    at: int
    since: int | None


def counts(workers, *chosen):
    """Return the findings of some workers."""
    found = [finding for worker in chosen for finding in workers.findings(worker)]
    args = [{arg["name"]: arg["value"] for arg in finding["args"]} for finding in found]
    return [
        Count(arg["number"], arg["client"], arg["count"], finding["timestamp"], finding["since"])
        for arg, finding in zip(args, found, strict=True)
    ]


def found_by(workers, chosen):
    """Return the numbers of the events that some workers found, by the id of the finding."""
    return numbers([finding for worker in chosen for finding in workers.findings(worker)])


def check(workers, shared, played):
    """Check that each event was found under one id, and that a count that began later says so; return these counts."""
    wait_until(lambda: workers.count(ALONE) == played, "the findings of the worker that is alone")
    wait_until(lambda: len(found_by(workers, shared)) >= played, "the findings of the group")
    assert sorted(found_by(workers, shared).values()) == [*range(played)]
    whole = {one.number: one for one in counts(workers, ALONE)}
    begun = [one for one in counts(workers, *shared) if one.count < whole[one.number].count]
    for one in begun:
        earlier = [other for other in whole.values() if other.client == one.client and other.number <= one.number]
        assert one.since is not None
        assert one.count >= sum(other.at >= one.since for other in earlier)
        assert min(other.at for other in earlier) < one.since
    assert max(one.count for one in whole.values()) == -(-played // CLIENTS)
    return begun


def test_a_killed_worker_leaves_no_event_behind(run):
    """The others handle its events after its last report. They count those of its clients anew, and say so."""
    workers, paced = run
    paced.play(EVENTS // 2)
    while not workers.count(0):
        paced.play(TURN)
    workers.processes[0].send_signal(signal.SIGKILL)
    paced.play(EVENTS // 2)
    check(workers, (0, 1, 2), paced.played)


def test_a_worker_joins_and_no_event_is_missed(run):
    """It handles its share from a turn that it has stated, and its findings say since when."""
    workers, paced = run
    paced.play(EVENTS // 4)
    joined = workers.start()
    while not workers.count(len(workers.processes) - 1):
        paced.play(TURN, JOINING)
    assert joined.poll() is None
    paced.play(EVENTS // 4)
    assert check(workers, (0, 1, 2, 4), paced.played)
