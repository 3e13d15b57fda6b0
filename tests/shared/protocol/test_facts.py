"""Facts on the bus: their form is compact and whole, and a subscription follows the turns once it selects any."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.talk import there
from dnstrail.bus.ipc import facts_address, lookups_address
from dnstrail.captured import Captured, Flow
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, EVENTS, NET_CONNECTION
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, encode
from dnstrail.protocol.facts import (
    ConnectionValues,
    FactFeed,
    TransactionValues,
    checked_values,
    event_place,
    packed_fact,
    stage_place,
    unpacked_fact,
    unpacked_facts,
    whole_id,
    whole_stage_id,
    without_owners,
)
from live.workers import open_bus, seen, short_folder, wait_until

RELATIONS = [[5, "b.example", 60], [1, "192.0.2.1", 60], [1, "192.0.2.2", 60, "b.example"], [65, "c.example", 60, "x"]]
WHOLE = [
    ("a.example", "CNAME", "b.example", 60),
    ("b.example", "A", "192.0.2.1", 60),
    ("b.example", "A", "192.0.2.2", 60),
    ("x", "HTTPS", "c.example", 60),
]
SHORTER = [*RELATIONS[:2], [1, "192.0.2.2", 60, 0], RELATIONS[3]]  # 0 is the owner before
VALUES = [[1, 2], None, 7, bytes(4), 53, 1, None, "a.example", 28, 0, 0, 2, None, RELATIONS]


@pytest.mark.parametrize("relations", [RELATIONS, SHORTER], ids=["as before 0 was an owner", "as now"])
def test_a_fact_arrives_as_it_was_sent(relations):
    """The values of a fact have their names again, numbers are words, and relations have owners; nil is left out."""
    flow = there()
    values = [*VALUES[:-1], relations]
    body = encode(Batch("c", 1, 0, [packed_fact(1, flow, None, values)], probe="s"))
    assert msgpack.unpackb(body)[3][2][0][4] == {"": values}
    batch = decode(body, Batch)
    [arrived] = batch.events
    args = {
        "id": "s/net_packet_dns/1/2/end",
        "transport": "udp",
        "socket": 7,
        "resolver": "0.0.0.0",
        "resolver_port": 53,
        "hop": "forwarder",
        "name": "a.example",
        "type": "AAAA",
        "outcome": "answered",
        "rcode": 0,
        "tries": 2,
        "relations": WHOLE,
    }
    assert unpacked_fact(DNS_TRANSACTION, arrived, batch.probe) == Captured(1, flow=flow, args=args)


def test_a_stage_of_a_connection_arrives_as_it_was_sent():
    """The receiver is an argument only as long as the flow has no source: then events show no flow."""
    values = [["net_tcp_connect", 1, 2], "opened", None, None, "a.example"]
    args = {"id": "s/net_tcp_connect/1/2/opened", "stage": "opened", "transport": "tcp", "name": "a.example"}
    for source, receiver in ((b"", {"dst": "192.0.2.1", "dst_port": 443}), (bytes([192, 0, 2, 100]), {})):
        flow = Flow(source, 0, bytes([192, 0, 2, 1]), 443, "tcp")
        packed = packed_fact(1, flow, None, values)
        [arrived] = decode(encode(Batch("c", 1, 0, [packed])), Batch).events
        assert unpacked_fact(NET_CONNECTION, arrived, "s") == Captured(1, flow=flow, args=args | receiver)


@pytest.mark.parametrize("start", ["s", "", "key.s", "s/1", "s/net_tcp_connect/1", "\N{SNOWMAN}"])
@pytest.mark.parametrize("probe", ["s", "", "another", "s/1"])
def test_an_id_arrives_as_it_was_sent(start, probe):
    """An id is whole on arrival, whether its batch states its start or not, and whatever a probe calls its start."""
    event = event_place(f"{start}/7", 3, probe)
    assert (event == (7, 3)) == (start == probe != "")
    assert whole_id(event, probe) == f"{start}/net_packet_dns/7/3/end"
    stage = stage_place(f"{start}/net_tcp_connect/7/3/end", probe)
    assert (stage == ("net_tcp_connect", 7, 3)) == (start == probe != "")
    assert whole_stage_id(ConnectionValues(stage, "end", None, 1, None), probe) == f"{start}/net_tcp_connect/7/3/end"


@pytest.mark.parametrize(
    ("topic", "values", "text"),
    [
        (DNS_TRANSACTION, VALUES, "s/1/2"),
        (NET_CONNECTION, [["net_tcp_connect", 1, 2], "opened", None, None, None], "s/net_tcp_connect/1/2/opened"),
    ],
)
def test_an_id_needs_a_start(topic, values, text):
    """A fact whose id refers to the start of its batch is refused if the batch states none; one in text is not."""
    whole = [text, *values[1:]]
    bad = [values, [*whole[:6], [1, 1], *whole[7:]]] if topic == DNS_TRANSACTION else [values]
    facts, refused = [packed_fact(1, there(), None, one) for one in (whole, *bad, whole)], list[BadMessage]()
    found = [place for place, _ in unpacked_facts(topic, "", enumerate(facts), refused.append)]
    assert found == [0, len(facts) - 1]
    assert ["without a start" in str(error) for error in refused] == [True] * len(bad)


@pytest.mark.parametrize(
    ("topic", "values"),
    [(DNS_TRANSACTION, VALUES), (NET_CONNECTION, [["net_tcp_connect", 1, 2], "opened", None, None, None])],
)
def test_an_earlier_version_refuses_an_id_without_its_start(topic, values):
    """A subscriber that expects ids in text reads the batch, and refuses each fact instead of mistaking its id."""
    current = TransactionValues if topic == DNS_TRANSACTION else ConnectionValues
    fields = [(one.name, str if one.name == "id" else one.type, one.default) for one in msgspec.structs.fields(current)]
    earlier = msgspec.defstruct(
        "Earlier", [one[: 2 if one[2] is msgspec.NODEFAULT else 3] for one in fields], array_like=True
    )
    batch = msgspec.defstruct(
        "Batch",
        [("start", str), ("turn", int), ("sequence", int), ("events", list), ("before", dict | None), ("host", str)],
        array_like=True,
    )
    body = encode(Batch("c", 1, 0, [packed_fact(1, there(), None, values)], host="web1", probe="s"))
    read = msgspec.msgpack.decode(body, type=batch)
    [event] = read.events[2]
    with pytest.raises(msgspec.ValidationError, match="Expected `str`, got `array`"):
        msgspec.convert(event[4][""], earlier)
    assert (read.start, read.host, msgspec.convert(["s/1/2", *event[4][""][1:]], earlier).id) == ("c", "web1", "s/1/2")


@pytest.mark.parametrize("topic", [DNS_TRANSACTION, NET_CONNECTION, f"{NET_CONNECTION}s"])
@pytest.mark.parametrize(
    "args",
    [{}, {"": None}, {"": []}, {"": "text"}, {"": [1] * 30}, {"": [*VALUES[:5], 9, *VALUES[6:]]}, {"id": "x"}],
    ids=["none", "no list", "no values", "a text", "numbers", "no hop", "names"],
)
def test_a_fact_that_no_cache_sends_is_refused(topic, args):
    """A fact in another form is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        unpacked_fact(topic, Captured(1, args=args))


def test_a_connection_to_nowhere_is_refused():
    """A stage whose flow has no address of a receiver is a bad message."""
    flow = Flow(b"", 0, b"123", 443, "tcp")
    with pytest.raises(BadMessage, match="bad fact"):
        unpacked_fact(NET_CONNECTION, packed_fact(1, flow, None, ["s/1/2", "opened"]))


def test_checked_values_are_those_of_the_specification():
    """Each value of a transaction that is checked has the place of its field; those at the end may be missing."""
    of_flow = {"src", "dst", "src_port", "dst_port"}
    fields = [one.name for one in EVENTS[DNS_TRANSACTION].fields if one.name not in of_flow]
    assert [name.replace("asked_for", "for") for name in TransactionValues.__struct_fields__] == fields
    values = checked_values(DNS_TRANSACTION, packed_fact(1, None, None, [*VALUES, None, True]))
    assert [(owner, kind, target) for owner, kind, target, _ in values.owned] == [
        ("a.example", 5, "b.example"),
        ("b.example", 1, "192.0.2.1"),
        ("b.example", 1, "192.0.2.2"),
        ("x", 65, "c.example"),
    ]
    assert (values.name, values.admitted, values.foreign) == ("a.example", True, None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.just(1), st.sampled_from("abc"), st.just(60))))
def test_relations_keep_their_owners_on_their_way(relations):
    """Each relation has the owner with which it was sent, whether the owner travels or not."""
    packed = msgspec.to_builtins([*without_owners("a", relations)])
    [arrived] = decode(
        encode(Batch("s", 1, 0, [packed_fact(1, None, None, [*VALUES[:7], "a", *VALUES[8:-1], packed])])), Batch
    ).events
    assert [*checked_values(DNS_TRANSACTION, arrived).owned] == relations


def test_an_owner_travels_once():
    """The further addresses of a name state that they have the owner before."""
    packed = without_owners("a.example", [("b.example", 1, f"192.0.2.{number}", 60) for number in range(3)])
    assert [one.owner for one in packed] == ["b.example", 0, 0]


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
