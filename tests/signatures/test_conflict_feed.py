"""The conflicts that the cache publishes, as a signature worker receives them."""

from __future__ import annotations

import pytest

from dnstrail.errors import Unavailable
from dnstrail.events import DNS_ANSWER_CONFLICT
from dnstrail.protocol.batches import Batch, encode
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.testing import dns_response
from dnstrail_signatures.cache import CATCHING_UP, CONFLICTS, ConflictFeed
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.worker import SignatureWorker
from live.workers import FakeClock, Messages

ANSWER = dns_response("bank.example", "bank.example 60 A 192.0.2.1").captured


class Conflict(Signature):
    """Reports every conflict."""

    metadata = SignatureMetadata("T-1", "1", "Conflict", "CONFLICT")
    selected_events = (EventSelector(name=DNS_ANSWER_CONFLICT),)

    def on_event(self, event):
        self.report(event, name=event.question.name)


class Cache:
    """The client and the bus of a test: the cache has published some conflicts, or is away."""

    def __init__(self, messages, published, behind=0):
        self.messages = messages
        self.published = published
        self.clock = FakeClock()
        self.late = []  # arrive while the worker waits
        self.behind = behind  # requests to come whose replies are incomplete

    def ask_reply(self, op, after, patience):
        assert (op, after) == ("stats", [("start", 3)])
        if self.published is None:
            raise Unavailable("ipc:///x", 1.0)
        if self.behind:
            self.behind -= 1
            self.clock.advance(patience)
            return {"complete": False, "data": {"cache": {"conflicts_published": 0}}}
        return {"complete": True, "data": {"cache": {"conflicts_published": self.published}}}

    def wait(self, _end, timeout):
        self.clock.advance(timeout)
        self.messages.waiting.extend(self.late)
        self.late.clear()


@pytest.fixture
def messages():
    return Messages()


def conflict(sequence):
    return DNS_ANSWER_CONFLICT, encode(Batch("start", 3, sequence, [ANSWER]))


def worker(feed, delivered):
    return SignatureWorker(Messages(), Chosen.of(Conflict), Delivery(delivered.append), conflicts=feed)


def test_lost_conflicts_are_counted(messages):
    """A gap in the sequence counts as lost; what the cache published before, or after a new start, does not."""
    delivered = []
    running = worker(ConflictFeed(Cache(messages, 0), messages, Cache(messages, 0)), delivered)
    messages.waiting.extend(map(conflict, (7, 8, 11, 0, 1)))
    running.take_of_cache()
    assert len(delivered) == 5
    assert running.turns.lost == {DNS_ANSWER_CONFLICT: 2}


def completed(messages, cache: Cache) -> tuple[int, float]:
    """Take the last conflicts, three that come late; return how many were handled, and the seconds that it took."""
    feed, delivered = ConflictFeed(cache, messages, cache), []
    running = worker(feed, delivered)
    cache.late = [conflict(sequence) for sequence in range(3)]
    began = cache.clock.monotonic()
    feed.complete(("start", 3), running.take_of_cache, {DNS_ANSWER_CONFLICT}, monotonic=cache.clock.monotonic)
    return len(delivered), cache.clock.monotonic() - began


@pytest.mark.parametrize(
    ("published", "handled"), [(3, 3), (9, 3), (None, 0)], ids=["all", "some are lost", "no cache"]
)
def test_the_end_of_a_source_waits_for_its_conflicts(messages, published, handled):
    """At the end the worker takes the conflicts that the cache has published, for a bounded time."""
    found, seconds = completed(messages, Cache(messages, published))
    assert found == handled
    assert (seconds >= CONFLICTS) == (published == 9)


@pytest.mark.parametrize(("behind", "handled"), [(20, 3), (10_000, 0)], ids=["catches up", "never does"])
def test_a_cache_that_is_behind_is_asked_again(messages, behind, handled):
    """The last conflicts are awaited after the cache has caught up with the source, for a bounded time."""
    found, seconds = completed(messages, Cache(messages, 3, behind))
    assert found == handled
    assert seconds < CATCHING_UP + 2 * CONFLICTS


def test_a_worker_that_is_to_end_awaits_no_cache_that_is_behind(messages):
    """After the stop signal a cache that is behind is asked no more."""
    cache = Cache(messages, 3, 100)
    feed = ConflictFeed(cache, messages, cache, lambda: cache.behind < 98)
    feed.complete(("start", 3), lambda: None, {DNS_ANSWER_CONFLICT}, monotonic=cache.clock.monotonic)
    assert cache.behind == 97
