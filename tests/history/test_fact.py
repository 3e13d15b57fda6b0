"""A fact is stored if a cache of ours may have sent it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from builders.facts import BEGIN, CURL, FLOW, RELATIONS
from dnstrail.captured import LAST_TIME, Captured
from dnstrail.errors import BadMessage
from dnstrail.protocol.facts import packed_fact
from dnstrail_history.fact import MOST_PLACE, FactId, read_fact, read_id

ARGS = {
    "id": "s/net_packet_dns/7/3/end",
    "hop": "forwarder",
    "for": "key.s/net_packet_dns/7/1/end",
    "name": "a.example",
    "type": "A",
    "outcome": "answered",
    "tries": 1,
    "relations": RELATIONS,
    "matched": True,
}


def sent(stamp: int = BEGIN, flow=FLOW, process=CURL, **args) -> Captured:
    """Return a transaction as it travels."""
    return packed_fact(stamp, flow, process, ARGS | args)


def test_a_fact_is_in_wall_time():
    """The end of a fact is shifted to wall time, and its ids are read."""
    fact = read_fact(sent(), "web1", -7)
    assert (fact.ended, fact.host, fact.process, fact.flow) == (BEGIN - 7, "web1", CURL, FLOW)
    assert fact.id == FactId("s/net_packet_dns", "end", 7, 3)
    assert fact.asked_for == FactId("key.s/net_packet_dns", "end", 7, 1)
    assert (*fact.values.owned,) == RELATIONS
    assert (str(fact.id), str(fact.asked_for)) == (fact.values.id, fact.values.asked_for)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s/x/1",
        f"s/x/1/{MOST_PLACE + 1}/end",
        "s/x/01/2/end",
        "s/x/1/-2/end",
        "s/x/\u0663/2/end",
        "s/x/1/9999999/end",
        f"s/x/{10**30}/2/end",
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
        (sent(relations=[("a", "A", "b", 1 << 63)]), 0),
        (sent(relations=[("a", "A", "b", True)]), 0),
        (sent(**{"for": "x"}), 0),
        (Captured(BEGIN, args={}), 0),
        (Captured(BEGIN, args={"": 7}), 0),
    ],
)
def test_a_fact_that_sqlite_cannot_hold_is_refused(captured, difference):
    """A value of another type, or a number beyond its range, is a bad message."""
    with pytest.raises(BadMessage, match="bad fact"):
        read_fact(captured, "web1", difference)
