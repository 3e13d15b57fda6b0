"""Facts on the bus: their form is compact and whole, and a subscription follows the turns once it selects any."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest

from dnstrail.bus.ipc import facts_address, lookups_address
from dnstrail.captured import Captured
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, EVENTS
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, encode
from dnstrail.protocol.facts import FactFeed, TransactionValues, checked_fact, packed_fact, unpacked_fact
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
    packed = packed_fact(1, None, None, args)
    [arrived] = decode(encode(Batch("s", 1, 0, [packed])), Batch).events
    assert unpacked_fact(arrived) == Captured(1, args={**args, "relations": [*RELATIONS]})
    assert len(msgspec.msgpack.encode(packed)) < len(msgspec.msgpack.encode(Captured(1, args=args)))


@pytest.mark.parametrize(
    "args",
    [{}, {"": None}, {"": []}, {"": "text"}, {"": [1] * 30}, {"id": "x"}],
    ids=["none", "no list", "no values", "a text", "numbers", "names"],
)
def test_a_fact_that_no_cache_sends_is_refused(args):
    """A fact in another form is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        unpacked_fact(Captured(1, args=args))


def test_checked_values_are_those_of_the_specification():
    """Each value of a transaction that is checked has the place of its field; those at the end may be missing."""
    of_flow = {"src", "dst", "src_port", "dst_port"}
    fields = [one.name for one in EVENTS[DNS_TRANSACTION].fields if one.name not in of_flow]
    assert [name.replace("asked_for", "for") for name in TransactionValues.__struct_fields__] == fields
    args = {"id": "x", "hop": "client", "name": "a.example", "type": "A", "outcome": "answered", "tries": 1}
    values = checked_fact(packed_fact(1, None, None, {**args, "relations": RELATIONS, "foreign": False}))
    assert ({name: getattr(values, name) for name in args}, values.foreign, values.admitted) == (args, False, None)
    assert (*values.owned,) == RELATIONS
    stated = [getattr(values, name) for name in TransactionValues.__struct_fields__[:14]]
    earlier = checked_fact(Captured(1, args={"": stated}))
    assert (earlier.relations, earlier.foreign) == (values.relations, None)


@pytest.mark.parametrize("args", [{}, {"": None}, {"": []}, {"": "text"}, {"": [1] * 30}, {"id": "x"}], ids=str)
def test_values_of_other_types_are_refused(args):
    """A transaction whose values have other types is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        checked_fact(Captured(1, args=args))


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
