"""The metrics of the cache."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from builders.dns_builders import t
from builders.talk import Talk, query
from dnstrail.image import Bounds, Image
from dnstrail.image.parties import MAX_OF_OWNER
from dnstrail.image.queries import SHARE
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.lookups import GetRequest
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.metrics import Resolvers, cache_metrics, unready
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, Messages, response, seen

A_COM = response("a.com", "a.com 60 A 192.0.2.1")
SECOND = 10**9


@pytest.fixture
def clock():
    return FakeClock(wall=5000.0)


@pytest.fixture
def state(clock):
    return CacheState(Image(Bounds(grace=0)), clock)


def applied(state, *messages):
    waiting = Messages()
    waiting.waiting.extend(messages)
    feeder = Feeder(waiting, state, lambda _conflict, _batch: None)
    while feeder.drain():
        pass


def batch(sequence, *payloads):
    return "net_packet_dns", encode(Batch("s", sequence, sequence, [seen(payload, 1000.0) for payload in payloads]))


def turn(number, last, now=5000 * SECOND, *, live=False):
    return TURN, encode(Turn("s", number, {"net_packet_dns": last} if last >= 0 else {}, live, now))


def values(state):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in cache_metrics(state, Resolvers())
        for sample in family.samples
    }


def test_events_and_losses_are_counted(state):
    """Events count by name, and what this cache missed or could not read counts by hop."""
    applied(state, batch(0, A_COM, b"no DNS"), turn(0, 0), batch(3, A_COM), turn(3, 3))
    found = values(state)
    assert found["dnstrail_events_total", "net_packet_dns"] == 3
    assert found["dnstrail_lost_total", "decoder"] == 1
    assert found["dnstrail_lost_total", "bus"] == 2
    assert found["dnstrail_messages_total", "related"] == 2
    assert found["dnstrail_answers_total",] == 2
    assert (found["dnstrail_image_roots",], found["dnstrail_image_relations",]) == (1, 1)


def test_evictions_are_counted_by_kind(clock):
    """Each kind of eviction has a series from the start."""
    state = CacheState(Image(Bounds(size=1, grace=0)), clock)
    assert values(state)["dnstrail_evicted_total", "roots"] == 0
    applied(state, batch(0, A_COM, response("b.com", "b.com 60 A 192.0.2.1")))
    assert values(state)["dnstrail_evicted_total", "roots"] == 1
    kinds = {labels[0] for name, *labels in values(state) if name == "dnstrail_evicted_total"}
    assert kinds == {"roots", "relations", "owned", "server_names", "queries", "doubts"}


def test_evicted_queries_and_doubts_are_counted(clock):
    """Queries beyond the share of their owner, and doubts beyond their bound, count as evicted."""
    talk = Talk("reject")
    for number in range(SHARE + 2):
        talk.ask(0, query(f"n{number}"))
    for number in range(MAX_OF_OWNER + 1):
        talk.image.gap(t(1), "host", number + 1, owner=1)
    found = values(CacheState(talk.image, clock))
    assert found["dnstrail_evicted_total", "queries"] == 2
    assert found["dnstrail_evicted_total", "doubts"] == 2  # a doubt has two sides


def test_lookups_are_timed_by_operation(state):
    """The time of a request counts for its operation."""
    state.note_answered(GetRequest(key="a.com"), 0.002)
    found = values(state)
    assert found["dnstrail_lookup_duration_seconds_count", "get"] == 1
    assert found["dnstrail_lookup_duration_seconds_bucket", "get", "0.001"] == 0
    assert found["dnstrail_lookup_duration_seconds_bucket", "get", "0.0025"] == 1


def test_a_cache_is_ready_once_it_hears_a_probe(state, clock):
    """A cache without a probe is not ready, nor is a cache whose probe went silent."""
    assert unready(state) == "probes: waiting"
    applied(state, turn(0, -1, live=True))
    assert unready(state) == ""
    clock.advance(4)
    assert unready(state) == "probes: silent"
    assert values(state)["dnstrail_probes_status", "silent"] == 1


def test_a_late_turn_is_lag(state, clock):
    """A turn that was slower than the fastest turn of its probe shows by how much the cache is behind."""
    applied(state, turn(0, -1, live=True))
    assert values(state)["dnstrail_lag_seconds",] == 0
    clock.advance(3)
    applied(state, turn(1, -1, now=5001 * SECOND, live=True))
    assert values(state)["dnstrail_lag_seconds",] == pytest.approx(2)


def test_the_names_are_valid(state):
    """Prometheus accepts all names: counters end in _total, and no label contains a name that was resolved."""
    applied(state, batch(0, A_COM), turn(0, 0))

    class Registry:
        def collect(self):
            return cache_metrics(state, Resolvers())

    text = generate_latest(Registry()).decode()
    assert "a.com" not in text
    assert "# TYPE dnstrail_events_total counter" in text
