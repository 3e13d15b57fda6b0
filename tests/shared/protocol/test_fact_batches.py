"""A batch of facts is decoded as a whole; one that is bad leaves the others."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from msgspec.structs import replace

from builders.facts import CURL, FLOW, TO_WEB
from dnstrail.captured import Captured
from dnstrail.errors import BadMessage
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, STAGES
from dnstrail.protocol.batches import Batch, encode
from dnstrail.protocol.fact_batches import decode_facts
from dnstrail.protocol.facts import ConnectionValues, packed_fact

QUESTION = [[1, 2], None, 7, None, None, 0, None, "a.example", 1, 0, 0, 1, None, [[1, "192.0.2.1", 60]]]
OPENED = [["net_tcp_connect", 1, 2], "opened", None, 7, "a.example", "thread", None]
TOPICS = [(DNS_TRANSACTION, FLOW, QUESTION), (NET_CONNECTION, TO_WEB, OPENED)]


def received(topic: str, *facts: Captured) -> tuple[list[tuple], list[BadMessage]]:
    """Return the facts of a batch by time, flow, process and values, and what was wrong with the others."""
    refused: list[BadMessage] = []
    batch, rows = decode_facts(topic, encode(Batch("cache", 1, 0, facts, None, "web1", "s")), refused.append)
    assert (batch.start, batch.host, batch.probe, len(batch.events)) == ("cache", "web1", "s", len(facts))
    return [(event.timestamp, event.flow, process, event.args.values) for event, process in rows], refused


@pytest.mark.parametrize(("topic", "flow", "values"), TOPICS)
def test_a_bad_fact_leaves_the_others(topic, flow, values):
    """The facts around a bad one are those that arrive in a batch without it."""
    sound = [packed_fact(time, flow, CURL if time % 2 else None, values) for time in range(4)]
    expected, refused = received(topic, *sound)
    assert [one[:3] for one in expected] == [(time, flow, CURL if time % 2 else None) for time in range(4)]
    assert not refused
    bad = [
        Captured(1, b"", flow, CURL),
        Captured(1, b"", flow, CURL, {"": 7}),
        packed_fact(1, flow, CURL, [7, *values[1:]]),
        packed_fact(1, flow, CURL, [values[0][:-1], *values[1:]]),
        packed_fact(1, flow, CURL, [[*values[0][:-1], -1], *values[1:]]),
        packed_fact(1, flow, CURL, [[*values[0][:-1], 1 << 63], *values[1:]]),
        packed_fact(1, replace(flow, source_port=1 << 16), CURL, values),
        packed_fact(1, replace(flow, destination=b""), CURL, values),
        packed_fact(1, flow, replace(CURL, start_time=1 << 63), values),
    ]
    found, refused = received(topic, *sound[:2], *bad, *sound[2:])
    assert (found, len(refused)) == (expected, len(bad))


@pytest.mark.parametrize("topic", [DNS_TRANSACTION, NET_CONNECTION])
def test_a_body_that_is_no_batch_is_refused(topic):
    """A body that is no batch is one bad message."""
    with pytest.raises(BadMessage):
        decode_facts(topic, b"\xc1", pytest.fail)


def test_the_stages_are_those_of_the_specification():
    """A stage that is checked is one of those that the event specification names."""
    assert get_args(get_type_hints(ConnectionValues)["stage"]) == STAGES
