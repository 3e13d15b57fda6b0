"""Many new starts at once: a worker asks for the members of its group a few times, and handles every event once."""

from __future__ import annotations

import time
from collections import deque

import pytest

from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.members import Work
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.group.membership import Membership
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.worker import _MOST_EARLY, SignatureWorker
from live.workers import Messages

ALONE = {"ok": True, "data": {"epoch": 1, "settled": True, "members": [{"worker": "me"}], "behind": {}}}


class Seen(Signature):
    """Reports each event."""

    metadata = SignatureMetadata(id="T-1", version="1", name="Seen", event_name="SEEN")
    selected_events = (EventSelector(name=NET_PACKET_DNS),)

    def on_event(self, event):
        self.report(event, start=event.mark[0])


class Cache:
    """A client of a cache that knows no other member; each request has a reply once `answer` is called."""

    timeout = 1.0

    def __init__(self):
        self.sent = 0
        self._replies = deque()

    def send(self, _op, **_fields):
        """Count a request, which replaces the one before."""
        self.sent += 1
        self._replies.clear()
        return True

    def answer(self):
        """Reply to the last request."""
        self._replies.append(ALONE)

    def reply(self):
        """Return the reply, once."""
        return self._replies.popleft() if self._replies else None


@pytest.fixture
def cache():
    """Return a cache that answers."""
    return Cache()


@pytest.fixture
def found():
    """Return the findings."""
    return []


@pytest.fixture
def messages():
    """Return the messages of the probes."""
    return Messages()


@pytest.fixture
def worker(cache, found, messages):
    """Return a worker that has joined its group."""
    membership = Membership(cache, "g", "me", time.monotonic())
    membership.step(time.monotonic(), Work)
    cache.answer()
    membership.step(time.monotonic(), Work)
    assert not membership.waits
    cache.sent = 0
    return SignatureWorker(messages, Chosen.of(Seen), Delivery(found.append), share=GroupShare(membership))


def handle_all(worker, cache, messages):
    """Do what the main loop does until all messages are handled."""
    while messages.waiting or worker.share.waits or worker._next:
        if worker.share.waits:
            worker.take_early(time.monotonic())
            worker.on_idle(time.monotonic())
            cache.answer()
        else:
            worker.take_message()
        worker.on_idle(time.monotonic())


def published(start, *, ended=False):
    """Return a batch of one event, and its turn."""
    batch = Batch(start, 0, 0, [Captured(1)])
    return [(NET_PACKET_DNS, encode(batch)), (TURN, encode(Turn(start, 0, {NET_PACKET_DNS: 0}, True, 1, ended)))]


def test_one_reply_serves_many_new_starts(worker, cache, messages, found):
    """The starts of all messages that wait are settled together, and each event is handled once."""
    for number in range(200):
        messages.waiting.extend(published(f"s{number}"))
    handle_all(worker, cache, messages)
    assert sorted(finding["args"][0]["value"] for finding in found) == sorted(f"s{number}" for number in range(200))
    assert cache.sent < 10


def test_the_messages_that_are_received_early_are_bounded(worker, messages):
    """Beyond the bound they wait in the subscriber."""
    for number in range(_MOST_EARLY):
        messages.waiting.extend(published(f"s{number}"))
    worker.take_message()
    worker.take_early(time.monotonic())
    worker.take_early(time.monotonic())
    assert len(messages.waiting) == 2 * _MOST_EARLY - 1 - _MOST_EARLY


def test_the_end_of_a_source_comes_after_its_events(worker, cache, messages, found):
    """The signal that a source is complete waits for the events of its start."""
    messages.waiting.extend([*published("a"), *published("b", ended=True), *published("c")])
    handle_all(worker, cache, messages)
    kinds = [finding.get("signal") or finding["args"][0]["value"] for finding in found]
    assert sorted(kinds) == ["a", "b", "c", "source_complete"]
    assert kinds.index("b") < kinds.index("source_complete")
