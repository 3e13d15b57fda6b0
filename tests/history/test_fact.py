"""A fact is stored if a cache of ours may have sent it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from builders.facts import BEGIN, CURL, FLOW, RELATIONS
from dnstrail.captured import LAST_TIME, Captured
from dnstrail.errors import BadMessage
from dnstrail.protocol.facts import TransactionValues, packed_fact
from dnstrail_history.fact import MOST_PLACE, FactId, read_fact, read_id

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


def sent(stamp: int = BEGIN, flow=FLOW, process=CURL, **values) -> Captured:
    """Return a transaction as it travels."""
    stated = VALUES | values
    return packed_fact(stamp, flow, process, [stated.get(name) for name in TransactionValues.__struct_fields__])


def test_a_fact_is_in_wall_time():
    """The end of a fact is shifted to wall time, and its ids are read."""
    fact = read_fact(sent(), "web1", -7)
    assert (fact.ended, fact.host, fact.process, fact.flow) == (BEGIN - 7, "web1", CURL, FLOW)
    assert fact.id == FactId("s", 7, 3)
    assert fact.asked_for == FactId("key.s", 7, 1)
    assert (*fact.values.owned,) == RELATIONS
    assert (str(fact.id), str(fact.asked_for)) == (fact.values.id, fact.values.asked_for)


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
        (sent(relations=[[1, "b", 1 << 63]]), 0),
        (sent(relations=[[1, "b", True]]), 0),
        (sent(relations=[[1, "b", 1, 7]]), 0),
        (sent(asked_for="x"), 0),
        (Captured(BEGIN, args={}), 0),
        (Captured(BEGIN, args={"": 7}), 0),
    ],
)
def test_a_fact_that_sqlite_cannot_hold_is_refused(captured, difference):
    """A value of another type, or a number beyond its range, is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        read_fact(captured, "web1", difference)
