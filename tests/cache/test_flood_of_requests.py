"""A client that floods the cache with requests does not keep it from its events."""

from __future__ import annotations

from itertools import repeat
from typing import ClassVar

import pytest

from dnstrail.image import Image
from dnstrail.protocol.batches import Turn, encode
from dnstrail.protocol.lookups import encode_request
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.worker import PATIENCE, _Worker
from live.workers import FakeClock

VERSION = encode_request("version")


class SlowRequest:
    """A request whose answer takes a time on the clock of the cache."""

    client = b"client"
    fault = ""

    def __init__(self, clock, seconds, body=VERSION):
        self.body = body
        self._clock = clock
        self._seconds = seconds

    def reply(self, _body):
        self._clock.monotonic_time += self._seconds
        return True


class Queue:
    """An end of the bus that counts how often it is read, and yields the given values."""

    refused = 0

    def __init__(self, values):
        self._values = iter(values)
        self.reads = 0

    def receive(self):
        self.reads += 1
        return next(self._values, None)

    def subscribe(self, _topic):
        """Accept a subscription."""


@pytest.mark.parametrize(("seconds", "answered"), [(0.0, 256), (0.02, 3), (1.0, 1)])
def test_events_are_read_between_the_requests_of_a_flood(seconds, answered):
    """A step answers requests for 50 ms, or 256 of them; then the cache reads its events again."""
    clock = FakeClock()
    state = CacheState(Image(), clock)
    events = Queue(())
    worker = _Worker(
        Queue(repeat(SlowRequest(clock, seconds))), Feeder(events, state, lambda *_: None), state, lambda: None
    )
    worker.step()
    assert state.counters["requests"] == answered
    worker.step()
    assert (state.counters["requests"], events.reads) == (2 * answered, 2)


def test_events_are_read_between_lookups_that_waited():
    """Lookups that waited for their events take half of a step, and other requests the rest; all are answered."""
    clock = FakeClock()
    state = CacheState(Image(), clock)
    waiting = [SlowRequest(clock, 0.02, encode_request("get", key="a.com", after=[["s", 9]])) for _ in range(20)]
    events = Queue([("turn", encode(Turn("s", 0, {}, True, state.now)))])
    requests = Queue([*waiting, None, *repeat(SlowRequest(clock, 0.02), 20)])
    worker = _Worker(requests, Feeder(events, state, lambda *_: None), state, lambda: None)
    worker.step()
    assert (len(worker.pending), worker.behind) == (20, False)
    clock.monotonic_time += PATIENCE
    for step in range(1, 11):
        worker.step()
        assert len(worker.pending) == 20 - 2 * step
        assert state.counters["requests"] == 20 + step
        assert worker.behind is (step < 10)


@pytest.mark.parametrize(("seconds", "share"), [(0.0, 0.0001), (0.005, 0.005), (1.0, 0.02)])
def test_events_get_as_much_time_as_the_requests_before(seconds, share):
    """The events of a step get the time of the requests of the step before, within bounds."""

    class Drained(Feeder):
        shares: ClassVar[list[float]] = []

        def drain(self, seconds):
            self.shares.append(round(seconds, 6))
            return super().drain(seconds)

    clock = FakeClock()
    state = CacheState(Image(), clock)
    feeder = Drained(Queue(()), state, lambda *_: None)
    worker = _Worker(Queue([SlowRequest(clock, seconds)]), feeder, state, lambda: None)
    for _ in range(3):
        worker.step()
    assert feeder.shares[-3:] == [0.0001, share, 0.0001]


class Facts:
    """A publisher of facts whose steps take a time on the clock of the cache, and are counted."""

    refused = 0

    def __init__(self, clock, seconds=0.0):
        self.steps = 0
        self._clock = clock
        self._seconds = seconds

    def step(self):
        self.steps += 1
        self._clock.monotonic_time += self._seconds


def test_facts_are_published_beside_a_flood_of_requests():
    """Facts are published after events, where no request waits, and every 10 ms beside requests."""
    clock = FakeClock()
    state, facts = CacheState(Image(), clock), Facts(clock)
    events = Queue([None, None, ("turn", encode(Turn("s", 0, {}, True, state.now)))])
    requests = Queue([*repeat(SlowRequest(clock, 0.0), 4 * 256), None])
    worker = _Worker(requests, Feeder(events, state, lambda *_: None), state, lambda: None, facts=lambda _: facts)
    steps = []
    for seconds in (0.0, 0.009, 0.0, 0.011, 0.0, 0.0):
        clock.advance(seconds)
        worker.step()
        steps.append(facts.steps)
    assert steps == [1, 1, 2, 3, 4, 5]
    assert state.counters["requests"] == 4 * 256


def test_facts_are_published_beside_a_flood_of_events():
    """Facts are published before a reply, where no event waits, and every 10 ms beside events that wait."""
    clock = FakeClock()
    state, facts = CacheState(Image(), clock), Facts(clock)
    turn = ("turn", encode(Turn("s", 0, {}, True, state.now)))
    events, requests = Queue(repeat(turn, 5 * 256)), Queue([None, None, SlowRequest(clock, 0.0)])
    worker = _Worker(requests, Feeder(events, state, lambda *_: None), state, lambda: None, facts=lambda _: facts)
    steps = []
    for seconds in (0.0, 0.009, 0.0, 0.009, 0.002, 0.0):
        clock.advance(seconds)
        worker.step()
        steps.append((facts.steps, worker.behind))
    assert steps == [(1, True), (1, True), (2, True), (2, True), (3, True), (4, False)]
    assert state.counters["requests"] == 1


def test_the_publication_of_facts_takes_no_time_of_requests():
    """A step answers requests for 50 ms, however long the facts took."""
    clock = FakeClock()
    state, requests = CacheState(Image(), clock), Queue(repeat(SlowRequest(clock, 0.02)))
    feeder = Feeder(Queue(()), state, lambda *_: None)
    worker = _Worker(requests, feeder, state, lambda: None, facts=lambda _: Facts(clock, seconds=1.0))
    worker.step()
    assert state.counters["requests"] == 3
