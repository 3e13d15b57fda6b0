"""Facts on the bus: their form is compact and whole, and a subscription follows the turns once it selects any."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest

from dnstrail.bus.ipc import facts_address, lookups_address
from dnstrail.captured import Captured, Flow
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, encode
from dnstrail.protocol.facts import FactFeed, packed_fact, unpacked_fact
from live.workers import open_bus, seen, short_folder, wait_until

RELATIONS = (
    ("a.example", "CNAME", "b.example", 60),
    ("b.example", "A", "192.0.2.1", 60),
    ("b.example", "A", "192.0.2.2", 60),
    ("a.example", "HTTPS", "c.example", 60),
)


def test_a_fact_arrives_as_it_was_sent():
    """The arguments of a fact have their names again, and its relations their owners; on the bus it is smaller."""
    args = {"id": "s/net_packet_dns/1/2", "name": "a.example", "type": "A", "relations": RELATIONS, "waited": 7}
    packed = packed_fact(DNS_TRANSACTION, 1, None, None, args)
    [arrived] = decode(encode(Batch("s", 1, 0, [packed])), Batch).events
    assert unpacked_fact(DNS_TRANSACTION, arrived) == Captured(1, args={**args, "relations": [*RELATIONS]})
    assert len(msgspec.msgpack.encode(packed)) < len(msgspec.msgpack.encode(Captured(1, args=args)))


def test_a_stage_of_a_connection_arrives_as_it_was_sent():
    """The receiver is an argument only as long as the flow has no source: then events show no flow."""
    args = {"id": "s/net_tcp_connect/1/2/opened", "stage": "opened", "name": "a.example"}
    for source, receiver in ((b"", {"dst": "192.0.2.1", "dst_port": 443}), (bytes([192, 0, 2, 100]), {})):
        flow = Flow(source, 0, bytes([192, 0, 2, 1]), 443, "tcp")
        packed = packed_fact(NET_CONNECTION, 1, flow, None, args)
        [arrived] = decode(encode(Batch("s", 1, 0, [packed])), Batch).events
        assert unpacked_fact(NET_CONNECTION, arrived) == Captured(1, flow=flow, args=args | receiver)


@pytest.mark.parametrize("topic", [DNS_TRANSACTION, NET_CONNECTION, f"{NET_CONNECTION}s"])
@pytest.mark.parametrize(
    "args",
    [{}, {"": None}, {"": []}, {"": "text"}, {"": [1] * 30}, {"id": "x"}],
    ids=["none", "no list", "no values", "a text", "numbers", "names"],
)
def test_a_fact_that_no_cache_sends_is_refused(topic, args):
    """A fact in another form is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        unpacked_fact(topic, Captured(1, args=args))


def test_a_connection_to_nowhere_is_refused():
    """A stage whose flow has no address of a receiver is a bad message."""
    flow = Flow(b"", 0, b"123", 443, "tcp")
    with pytest.raises(BadMessage, match="bad fact"):
        unpacked_fact(NET_CONNECTION, packed_fact(NET_CONNECTION, 1, flow, None, {"stage": "opened"}))


@pytest.fixture
def ends():
    """Return a publisher of facts, its batches, and a feed that selects nothing yet."""
    with short_folder() as folder, open_bus() as here, open_bus() as there:
        publisher = here.publisher(facts_address(lookups_address(folder)), lossless=False)
        feed = FactFeed(there, lookups_address(folder))
        yield SimpleNamespace(publisher=publisher, batches=BatchPublisher(publisher, "cache", live=True), feed=feed)


def subscribed(ends) -> tuple[int, int]:
    """Return the subscriptions to transactions, and to turns."""
    return ends.publisher.subscribers(DNS_TRANSACTION), ends.publisher.subscribers(TURN)


def publish(ends, facts: int) -> None:
    """Publish a turn, and let the feed note all of it."""
    for number in range(facts):
        ends.batches.add(DNS_TRANSACTION, seen(b"", number))
    ends.batches.close_turn(1, Counter())
    ends.batches.flush()
    turn = ends.batches.turn - 1

    def noted() -> bool:
        while (message := ends.feed.subscriber.receive()) is not None:
            if message[0] == TURN:
                ends.feed.turn(decode(message[1], Turn))
                return decode(message[1], Turn).turn == turn
            ends.feed.batch(decode(message[1], Batch))
        return False

    wait_until(noted, "the turn")


def test_a_feed_that_selects_nothing_receives_nothing(ends):
    """Turns come once a fact is selected, and stay: their absence would be a silence of the cache."""
    wait_until(lambda: ends.publisher.subscribers("confirms"), "the connection")
    assert subscribed(ends) == (0, 0)
    ends.feed.select([DNS_TRANSACTION])
    wait_until(lambda: subscribed(ends) == (1, 1), "the subscription")
    ends.feed.select([])
    wait_until(lambda: subscribed(ends) == (0, 1), "the end of the subscription")


def test_a_feed_knows_the_number_of_facts(ends):
    """A turn states how many facts there are, also if none of them was received."""
    ends.feed.select([DNS_TRANSACTION])
    wait_until(lambda: subscribed(ends) == (1, 1), "the subscription")
    assert not ends.feed.heard
    publish(ends, 3)
    assert (ends.feed.heard, ends.feed.published) == (True, 3)
    ends.feed.select([])
    wait_until(lambda: subscribed(ends) == (0, 1), "the end of the subscription")
    publish(ends, 2)
    assert ends.feed.published == 5
