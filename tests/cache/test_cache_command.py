from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.protocol.batches import TURN
from live.processes import run_dir, started, wait_until
from live.workers import Probe, asker, open_bus, response, seen, wait_until_seen

NAMES = ["a.com", "b.com", "c.com"]


@contextmanager
def a_cache(option, *, live):
    """Start a cache with an option, and a probe that it follows. Yields the probe and a client."""
    with run_dir() as folder, open_bus() as bus:
        publisher = bus.publisher(events_address(folder), lossless=False)
        probe = Probe(publisher, "start", live=live)
        with started("cache", "--run-dir", folder, "--dnscache", option), asker(lookups_address(folder)) as client:
            wait_until(lambda: publisher.subscribers(TURN) == 1, "the subscription of the cache")
            probe.turn()
            wait_until(lambda: client.ask("health")["data"]["turns"], "the first turn")
            yield probe, client


@pytest.mark.parametrize(("option", "kept"), [("size=1", 1), ("relations=2", 2), ("relations=3", 3)])
def test_options_bound_the_image(option, kept):
    """The image keeps no more query roots and relations than `--dnscache` allows."""
    with a_cache(option, live=False) as (probe, client):
        for number, name in enumerate(NAMES):
            mark = probe.turn(seen(response(name, f"{name} {60 + number} A 192.0.2.{number}"), 1000.0 + number))
        wait_until_seen(client, mark)
        found = client.ask("get_many", keys=NAMES)["data"]
    assert len([data for data in found if data]) == kept


@pytest.mark.parametrize(("option", "relations"), [("history=0", 0), ("history=1e9", 1)])
def test_history_bounds_how_long_an_ended_relation_is_held(option, relations):
    """With a live probe a relation is removed `history` seconds after its end."""
    with a_cache(f"grace=0,{option}", live=True) as (probe, client):
        mark = probe.turn(seen(response("a.com", "a.com 0 A 192.0.2.1"), time.time()))
        wait_until_seen(client, mark)

        def held():
            return client.ask("stats")["data"]["image"]["relations"]

        wait_until(lambda: held() == relations, "the removal")
        assert held() == relations
