"""Lookups of signatures while the cache is away, or does not know the time of their event."""

from __future__ import annotations

import pytest

from dnstrail.client import DnsDataSource
from dnstrail.datasource import DataSources
from dnstrail.errors import DataNotFound, Forgotten, Unavailable
from dnstrail.events import NET_PACKET_DNS
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.testing import dns_response
from dnstrail_signatures.cache import PATIENCE, PatientDns
from dnstrail_signatures.engine.engine import Engine
from live.workers import FakeClock

AWAY = Unavailable("ipc:///x", 1.0, "absent")
FOUND = {"ip_addresses": ["192.0.2.1"], "dns_queries": ["a.example"], "dns_root": "a.example"}


class Cache:
    """The cache of a test: a clock, the pauses of a data source, and what each request leads to."""

    def __init__(self, monkeypatch, *outcomes):
        self.clock = FakeClock()
        self.outcomes = [*outcomes]
        self.asked = 0
        self.ending = False
        self.dns = PatientDns("ipc:///x", pause=self.pause, monotonic=self.clock.monotonic)
        monkeypatch.setattr(DnsDataSource, "_ask", lambda _dns, _op, **_fields: self.answer())

    def answer(self):
        self.asked += 1
        outcome = self.outcomes.pop(0) if self.outcomes else AWAY
        if isinstance(outcome, Exception):
            self.clock.advance(1.0 if outcome is AWAY else 0.0)
            raise outcome
        return {"data": outcome} if outcome is FOUND else outcome

    def pause(self, seconds):
        self.clock.advance(seconds)
        return self.ending


@pytest.fixture
def cache(monkeypatch):
    made = []

    def make(*outcomes):
        made.append(Cache(monkeypatch, *outcomes))
        return made[-1]

    yield make
    for each in made:
        each.dns.close()


def test_a_lookup_waits_for_a_cache_that_is_away(cache):
    """A lookup is repeated until the cache is back, and has its result then."""
    made = cache(AWAY, AWAY, AWAY, FOUND)
    assert made.dns.get("a.example") == FOUND
    assert made.asked == 4


def test_many_keys_of_a_time_that_the_cache_does_not_know(cache):
    """Where `get` raises Forgotten, `get_many` does too: a key is not found, and the cache no longer knows its time."""
    made = cache({"data": [FOUND, None]}, {"data": [FOUND, None], "history": False})
    assert made.dns.get_many(["a.example", "b.example"]) == [FOUND, None]
    with pytest.raises(Forgotten):
        made.dns.get_many(["a.example", "b.example"])


def test_the_wait_is_bounded(cache):
    """A lookup raises Unavailable once the cache was away for the bound."""
    made = cache()
    began = made.clock.monotonic()
    with pytest.raises(Unavailable):
        made.dns.get("a.example")
    assert PATIENCE <= made.clock.monotonic() - began <= PATIENCE + 2


def test_one_absence_is_waited_for_once(cache):
    """After the bound lookups fail at once, with one request each second, until the cache answers."""
    made = cache()
    for _ in range(100):
        with pytest.raises(Unavailable):
            made.dns.get("a.example")
    asked = made.asked
    with pytest.raises(Unavailable):
        made.dns.get("a.example")
    assert made.asked == asked
    made.clock.advance(1.0)
    made.outcomes = [FOUND, AWAY, FOUND]
    assert made.dns.get("a.example") == made.dns.get("a.example") == FOUND  # the next absence is waited for again
    assert made.outcomes == []


def test_the_end_of_the_worker_ends_the_wait(cache):
    """A worker that is to end waits for no cache."""
    made = cache()
    made.ending = True
    with pytest.raises(Unavailable):
        made.dns.get("a.example")
    assert made.asked == 1


@pytest.mark.parametrize("unknown", [{"complete": False}, {"history": False}], ids=["not received", "forgotten"])
def test_a_time_that_the_cache_does_not_know_is_no_not_found(cache, unknown):
    """A name that is not found at a time that the cache does not know raises Unavailable, and not DataNotFound."""
    with pytest.raises(Forgotten):
        cache(DataNotFound("a.example", **unknown)).dns.get("a.example")
    with pytest.raises(DataNotFound):
        cache(DataNotFound("a.example")).dns.get("a.example")


def test_an_event_that_is_given_up_is_counted(cache):
    """An event whose lookup no cache answers is counted by signature, and is no error of the signature."""

    class Asking(Signature):
        metadata = SignatureMetadata("T-1", "1", "Asking", "ASKING")
        selected_events = (EventSelector(name=NET_PACKET_DNS),)

        def on_event(self, event):
            self.report(event, **self.ctx.get_data_source("tracee", "dns").get(event.question.name))

    found = []
    engine = Engine([Asking], DataSources(cache(DataNotFound(history=False), FOUND).dns), found.append)
    for _ in range(2):
        engine.on_event(dns_response("a.example", "a.example 60 A 192.0.2.1"))
    assert (engine.unavailable, engine.errors, engine.counters["errors"]) == ({"ASKING": 1}, {}, 0)
    assert [finding.data for finding in found] == [FOUND]
