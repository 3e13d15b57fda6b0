from __future__ import annotations

from collections import deque

import msgpack
import pytest

from dnstrail.captured import Captured
from dnstrail.image import Bounds, Image
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail_cache.state import Feed
from live.workers import FakeClock, asker, cache, probe, response, seen, short_folder, wait_until

DNS = "net_packet_dns"
A_COM = response("a.com", "a.com 60 A 192.0.2.1")


class Messages:
    """A subscriber to what a test puts in."""

    def __init__(self):
        self.waiting = deque()

    def receive(self):
        return self.waiting.popleft() if self.waiting else None


@pytest.fixture
def messages():
    return Messages()


@pytest.fixture
def clock():
    return FakeClock(wall=5000.0)


@pytest.fixture
def feed(messages, clock):
    return Feed(messages, Image(Bounds(grace=0)), clock, lambda _conflict: None)


def batch(sequence=0, *, start="s", turn=0, at=1000.0, payload=A_COM):
    return DNS, encode(Batch(start, turn, sequence, [seen(payload, at)]))


def turn(number=0, last=-1, *, start="s", live=False):
    return TURN, encode(Turn(start, number, {DNS: last} if last >= 0 else {}, live, 0))


def test_payloads_are_applied_with_their_own_time(feed, messages):
    """A message counts at the probe's time stamp of its packet, not when it arrives."""
    messages.waiting += [batch(at=1000.25), turn(last=0)]
    feed.drain()
    assert feed.now == feed.image.latest == 1000.25
    assert feed.image.get("a.com").ip_addresses == ["192.0.2.1"]
    assert feed.turns.reached(("s", 0)) is True


def test_lookups_are_not_kept_waiting_by_a_flood(feed, messages):
    """One look takes a bounded number of messages; the others are taken by the next ones, none is lost."""
    messages.waiting += [batch(number, at=1000.0 + number) for number in range(1000)]
    feed.drain()
    assert 0 < feed.image.counters["messages"] < 1000
    while messages.waiting:
        feed.drain()
    assert feed.image.counters["messages"] == 1000
    assert not feed.turns.lost


def test_slow_messages_are_fewer_at_once(messages):
    """Where each message takes long, a look ends after its time, not after its number of messages."""

    class Slow(FakeClock):
        def monotonic(self):
            self.monotonic_time += 0.01
            return self.monotonic_time

    feed = Feed(messages, Image(Bounds()), Slow(), lambda _conflict: None)
    messages.waiting += [batch(number) for number in range(100)]
    feed.drain()
    assert 0 < feed.image.counters["messages"] < 10


def test_an_empty_bus_is_no_matter(feed):
    """Without messages nothing happens."""
    feed.drain()
    assert (feed.image.latest, feed.now, len(feed.image)) == (float("-inf"), float("-inf"), 0)


@pytest.mark.parametrize(
    ("live", "now"), [([False], 1000.0), ([True], 5000.0), ([False, True], 5000.0), ([True, False], 5000.0)]
)
def test_now_depends_on_what_is_heard(feed, messages, live, now):
    """The clock is the wall clock while a live probe is heard, whatever else is; else the greatest stamp."""
    messages.waiting += [batch(at=1000.0), *(turn(start=str(n), live=each) for n, each in enumerate(live))]
    feed.drain()
    assert feed.now == now


def test_what_is_swept_goes_by_the_clock_of_the_stream(feed, messages, clock):
    """Under a live probe the image is swept as time passes, though no message comes."""
    messages.waiting += [batch(at=clock.wall_time), turn(last=0, live=True)]
    feed.drain()
    assert feed.image.store.relations == 1
    clock.wall_time += 60 + feed.image.bounds.history
    feed.drain()
    assert feed.image.store.relations == 0


BAD = {
    "a turn that is empty": (TURN, b""),
    "a turn that is no MessagePack": (TURN, b"\xc1"),
    "a turn that is a map": (TURN, msgpack.packb({"start": "s"})),
    "a turn too short": (TURN, msgpack.packb(["s", 0])),
    "a turn with a wrong type": (TURN, msgpack.packb(["s", "0", {}, False, 0])),
    "a batch in the place of a turn": (TURN, batch()[1]),
    "a batch that is empty": (DNS, b""),
    "a batch that is text": (DNS, msgpack.packb("batch")),
    "a batch without its events": (DNS, msgpack.packb(["s", 0, 0])),
    "a turn in the place of a batch": (DNS, turn()[1]),
    "an event that is none": (DNS, msgpack.packb(["s", 0, 0, [1]])),
    "a payload of text": (DNS, msgpack.packb(["s", 0, 0, [[1, "payload"]]])),
    "a time of text": (DNS, msgpack.packb(["s", 0, 0, [["1", b"payload"]]])),
    "nested without end": (DNS, b"\x91" * 100_000),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_bus_message_is_counted(feed, messages, case):
    """What is no batch or turn is counted, and the next one is applied."""
    messages.waiting += [BAD[case], batch(), turn(last=0)]
    feed.drain()
    assert feed.counters == {"bad_bus_message": 1}
    assert feed.image.counters["messages"] == 1
    assert feed.turns.reached(("s", 0)) is True


def test_bad_payloads_never_stop_the_feed(feed, messages):
    """Payloads that are no DNS are counted by the image, and the good one among them is related."""
    payloads = [b"", b"x", bytes(12), b"\xff" * 600, A_COM[:-1], A_COM, A_COM + b"x"]
    events = [Captured(n, payload) for n, payload in enumerate(payloads)]
    messages.waiting.append((DNS, encode(Batch("s", 0, 0, events))))
    feed.drain()
    counters = feed.image.counters
    assert counters["messages"] == len(payloads)
    assert counters["bad_message"] >= 2
    assert feed.image.get("a.com", now=0.0) is not None


def test_a_worker_goes_on_after_bad_bus_messages():
    """Over a real socket, bad messages of a probe are counted in the stats and the next turn is seen."""
    with (
        short_folder() as folder,
        cache(folder) as address,
        asker(address) as client,
        probe(folder) as publishing,
    ):
        for topic, body in BAD.values():
            assert publishing.publisher.publish(topic, body)
        mark = publishing.turn(seen(A_COM))
        wait_until(lambda: client.ask("get", key="a.com", after=[mark])["ok"])
        stats = client.ask("stats")["data"]
        assert stats["cache"]["bad_bus_message"] == len(BAD)
        assert stats["lost"]["total"] == 0
