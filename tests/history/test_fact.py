"""A fact is stored if a cache of ours may have sent it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from builders.facts import BEGIN, CURL, FLOW, RELATIONS, TO_WEB
from dnstrail.captured import LAST_TIME, Captured
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.history.fact import MOST_PLACE, Fact, FactId, StageFact, read_fact, read_id, read_stage
from dnstrail.protocol.batches import Batch, encode
from dnstrail.protocol.fact_batches import decode_facts
from dnstrail.protocol.facts import ConnectionValues, TransactionValues, packed_fact

VALUES = {
    "id": "s/7/3",
    "hop": 1,
    "asked_for": "key.s/7/1",
    "name": "a.example",
    "type": 1,
    "outcome": 0,
    "tries": 1,
    "relations": [[5, "b.example", 60], [1, "192.0.2.1", 30]],
    "matched": True,
}


def read(topic: str, captured: Captured, difference: int, probe: str = "s") -> Fact | StageFact:
    """Return a fact that travels in a batch, as the store keeps it."""
    batch, [row] = decode_facts(topic, encode(Batch("cache", 1, 0, [captured], None, "web1", probe)), refuse)
    return (read_fact if topic == DNS_TRANSACTION else read_stage)(row, batch.host, difference, batch.probe)


def refuse(error: BadMessage) -> None:
    """Raise what is wrong with a fact."""
    raise error


def sent(stamp: int = BEGIN, flow=FLOW, process=CURL, **values) -> Captured:
    """Return a transaction as it travels."""
    stated = VALUES | values
    return packed_fact(stamp, flow, process, [stated.get(name) for name in TransactionValues.__struct_fields__])


def test_a_fact_is_in_wall_time():
    """The end of a fact is shifted to wall time, and its ids are read."""
    fact = read(DNS_TRANSACTION, sent(), -7)
    assert (fact.ended, fact.host, fact.process, fact.flow) == (BEGIN - 7, "web1", CURL, FLOW)
    assert fact.id == FactId("s", 7, 3)
    assert fact.asked_for == FactId("key.s", 7, 1)
    assert (*fact.values.owned,) == RELATIONS
    assert (str(fact.id), str(fact.asked_for)) == (fact.values.id, fact.values.asked_for)


def test_an_id_is_the_same_in_each_form():
    """Who has stored a fact whose id was text knows the fact again when its id refers to its batch."""
    whole, short = (read(DNS_TRANSACTION, sent(id=one, asked_for=one), 0) for one in ("s/7/3", [7, 3]))
    assert (short.id, short.asked_for) == (whole.id, whole.asked_for) == (FactId("s", 7, 3),) * 2
    whole, short = (
        read(NET_CONNECTION, stage_sent(id=one), 0) for one in ("s/net_tcp_connect/7/3/end", ["net_tcp_connect", 7, 3])
    )
    assert short.id == whole.id == FactId("s/net_tcp_connect", 7, 3)


def test_an_id_needs_a_start():
    """An id that refers to the start of its batch is a bad message in a batch without one."""
    sent_so = ((NET_CONNECTION, stage_sent(id=["net_tcp_connect", 7, 3])), (DNS_TRANSACTION, sent(id=[7, 3])))
    for topic, captured in (*sent_so, (DNS_TRANSACTION, sent(asked_for=[7, 3]))):
        with pytest.raises(BadMessage, match="bad fact"):
            read(topic, captured, 0, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s/1",
        f"s/1/{MOST_PLACE + 1}",
        "s/01/2",
        "s/1/-2",
        "s/\u0663/2",
        "s/1/9999999",
        f"s/{10**30}/2",
        f"s/{'9' * 5000}/2",
        "s/1/2/",
    ],
)
def test_an_id_that_no_cache_makes_is_refused(text):
    """An id in another form, or beyond the places of a batch, is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        read_id(text)


@pytest.mark.parametrize(
    ("captured", "difference"),
    [
        (sent(), -BEGIN - 1),
        (sent(LAST_TIME), 1),
        (sent(flow=replace(FLOW, source_port=1 << 16)), 0),
        (sent(flow=replace(FLOW, destination_port=-1)), 0),
        (sent(flow=replace(FLOW, namespace=1 << 63)), 0),
        (sent(process=replace(CURL, pid=1 << 63)), 0),
        (sent(process=replace(CURL, owner=-(1 << 63))), 0),
        (sent(waited=1 << 63), 0),
        (sent(tries=-1), 0),
        (sent(name=7), 0),
        (sent(hop=3), 0),
        (sent(outcome=8), 0),
        (sent(type=1 << 16), 0),
        (sent(resolver=b"abc"), 0),
        (sent(relations=[[1, "b", 1 << 31]]), 0),
        (sent(relations=[[1, "b", True]]), 0),
        (sent(relations=[[1, "b", 1, 7]]), 0),
        (sent(asked_for="x"), 0),
        (sent(id=[7, MOST_PLACE + 1]), 0),
        (sent(asked_for=[7, MOST_PLACE + 1]), 0),
        (Captured(BEGIN, args={}), 0),
        (Captured(BEGIN, args={"": 7}), 0),
    ],
)
def test_a_fact_that_sqlite_cannot_hold_is_refused(captured, difference):
    """A value of another type, or a number beyond its range, is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        read(DNS_TRANSACTION, captured, difference)


def stage_sent(stage: str = "end", stamp: int = BEGIN, flow=TO_WEB, process=CURL, **values) -> Captured:
    """Return a stage of a connection as it travels."""
    stated = {"id": f"s/net_tcp_connect/7/3/{stage}", "stage": stage, "lasted": 9, "why": "closed"} | values
    return packed_fact(stamp, flow, process, [stated.get(name) for name in ConnectionValues.__struct_fields__])


def test_a_stage_is_in_wall_time():
    """The time of a stage is shifted to wall time; its id is that of the connection, and the stage."""
    fact = read(NET_CONNECTION, stage_sent(), -7)
    assert (fact.time, fact.host, fact.process, fact.flow) == (BEGIN - 7, "web1", CURL, TO_WEB)
    assert (fact.id, fact.stage) == (FactId("s/net_tcp_connect", 7, 3), "end")
    assert (fact.values.lasted, fact.values.why, fact.values.bytes_sent) == (9, "closed", None)


@pytest.mark.parametrize(
    ("captured", "difference"),
    [
        (stage_sent(), -BEGIN - 1),
        (stage_sent(stamp=LAST_TIME), 1),
        (stage_sent("again"), 0),
        (stage_sent(id="s/net_tcp_connect/7/3/opened"), 0),
        (stage_sent(id="s/net_tcp_connect/7/end"), 0),
        (stage_sent(id="end"), 0),
        (stage_sent(id=["net_tcp_connect", 7, MOST_PLACE + 1]), 0),
        (stage_sent(flow=None), 0),
        (stage_sent(flow=replace(TO_WEB, source_port=1 << 16)), 0),
        (stage_sent(flow=replace(TO_WEB, destination=b"")), 0),
        (stage_sent(flow=replace(TO_WEB, source=b"123")), 0),
        (stage_sent(process=replace(CURL, start_time=1 << 63)), 0),
        (stage_sent(socket=-1), 0),
        (stage_sent(lasted=1 << 63), 0),
        (stage_sent(bytes_sent=1 << 63), 0),
        (stage_sent(name=b"a"), 0),
        (stage_sent(connected=1), 0),
        (Captured(BEGIN, flow=TO_WEB, args={"": 7}), 0),
    ],
)
def test_a_stage_that_sqlite_cannot_hold_is_refused(captured, difference):
    """A value of another type, a number beyond its range, or an id of another stage is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        read(NET_CONNECTION, captured, difference)
