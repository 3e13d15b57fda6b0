"""Who waits for the open turn of an idle probe asks for its end: the cache for lookups, and a view of the events."""

from __future__ import annotations

import math
import threading
from collections import Counter

import pytest

import dnstrail_cache.worker
import dnstrail_probe.worker
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds
from dnstrail.pipeline.view import EventView
from dnstrail.process.clock import StreamClock
from dnstrail.protocol import PROBES
from dnstrail.protocol.replays import TurnRequests, replay_address
from live.workers import FakeClock, asker, open_bus, running, short_folder, wait_until


class Idle:
    """A live source that captures nothing."""

    def __init__(self) -> None:
        self.name, self.live, self.damage, self.capabilities, self.losses = "idle", True, "", (), {}
        self.counters: Counter[str] = Counter()
        self.lost_by_cgroup = ()
        self._nothing = threading.Event()

    def read(self, timeout: float) -> list[object]:
        """Return nothing after a moment."""
        self._nothing.wait(timeout)
        return []

    def close(self) -> None:
        """Close nothing."""


@pytest.fixture
def folder(monkeypatch):
    """Return the folder of a probe that runs, whose heartbeat never comes."""
    monkeypatch.setattr(dnstrail_probe.worker, "HEARTBEAT", math.inf)

    def target(bus, stop):
        publisher = bus.publisher(events_address(folder), lossless=False)
        replays = bus.server(replay_address(events_address(folder)))
        dnstrail_probe.worker.run(Idle(), publisher, StreamClock(), stop, 1, replays=replays)

    with short_folder() as folder, running(target):
        yield folder


def test_a_lookup_does_not_wait_for_the_heartbeat(folder):
    """A lookup after the open turn of an idle probe is complete, although neither a heartbeat nor its patience ends."""

    def target(bus, stop):
        server = bus.server(lookups_address(folder))
        subscriber = bus.subscriber([events_address(folder)], dnstrail_cache.worker.TOPICS)
        requests = TurnRequests([bus.requester(replay_address(events_address(folder)))], PROBES)
        dnstrail_cache.worker.run(bus, subscriber, server, FakeClock(), Bounds(), stop, turn_requests=requests)

    with running(target), asker(lookups_address(folder)) as client:
        wait_until(lambda: client.ask("health")["data"]["turns"], "the first turn")
        for _ in range(5):
            [(start, turn)] = client.ask("health")["data"]["turns"].items()
            assert client.ask("get", key="a.com", after=[(start, turn + 1)]) == {
                "v": 1,
                "ok": False,
                "error": "data_not_found",
                "message": "requested data was not found",
            }


def test_a_view_does_not_wait_for_the_heartbeat(folder):
    """A view of events that asks for turns receives one after the other."""
    with open_bus() as bus:
        view = EventView(folder, (NET_PACKET_DNS,), (), bus, print, cache=False, take_findings=False)
        clock, turns = FakeClock(), set()

        def received() -> bool:
            view.ask_for_turn()
            view.wait(0.05)
            view.take(clock)
            turns.update(() if view.last is None else (view.last.turn,))
            return len(turns) >= 4

        wait_until(received, "four turns")
        view.close()
