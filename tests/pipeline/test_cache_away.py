"""A cache that is away for a while: no finding of a signature is missing after its return, or it is counted."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from dnstrail.bus.ipc import lookups_address
from live.groups import events, group, numbers
from live.processes import run_dir, started, wait_until
from live.workers import asker, probe

SIGNATURE = """
from dnstrail import DataNotFound, EventSelector, Signature, SignatureMetadata

class Answered(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Answered", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        try:
            self.ctx.get_data_source("tracee", "dns").get(event.question.name)
        except DataNotFound:
            self.report(event, number=event.captured.processor, missing=True)
        else:
            self.report(event, number=event.captured.processor)
"""
MANY, TURN = 200, 10


@pytest.fixture
def folder():
    with run_dir() as folder:
        yield folder


def play(publishing, first):
    """Publish so many events in turns."""
    for begin in range(first, first + MANY, TURN):
        publishing.turn(*(replace(event, timestamp=time.time_ns()) for event in events(begin, TURN)))


def receives(client, publishing):
    """Publish a turn, and return whether the cache has received one of this probe."""
    publishing.turn()
    return publishing.start in client.ask("health")["data"]["turns"]


def missing(findings):
    """Return the numbers of the events whose name was not found."""
    return numbers([one for one in findings if any(arg["name"] == "missing" for arg in one["args"])]).values()


def given_up(workers):
    """Return how many events the worker gave up, as the cache reports it."""
    return sum(member["signatures"].get("ANSWERED", {}).get("unavailable", 0) for member in workers.members().values())


def test_no_finding_is_missing_after_the_return_of_the_cache(folder):
    """Events that arrive while the cache is away wait: each leads to a finding, or is counted as given up.

    No name is "not found" because the cache did not receive its event.
    """
    with (
        started("cache", "--run-dir", folder) as first,
        group(folder, 1, signature=SIGNATURE, cache=False) as workers,
        probe(folder, live=True, subscribers=2) as publishing,
    ):
        play(publishing, 0)
        workers.await_findings(MANY)
        first.terminate()
        first.wait()
        publishing.publisher.linger(1.0)  # nobody reads what waits for the first cache
        play(publishing, MANY)
        with started("cache", "--run-dir", folder), asker(lookups_address(folder)) as client:
            wait_until(lambda: receives(client, publishing), "the new cache")
            play(publishing, 2 * MANY)
            wait_until(lambda: workers.count(0) + given_up(workers) >= 3 * MANY, "a finding or a count of each event")
            found = sorted(numbers(workers.findings(0)).values())
            assert len(found) + given_up(workers) == 3 * MANY
            assert found[-MANY:] == [*range(2 * MANY, 3 * MANY)]
            assert not {*range(MANY, 2 * MANY)}.intersection(missing(workers.findings(0)))
            assert client.ask("stats")["data"]["lost"]["workers"].get("net_packet_dns", 0) == 0
