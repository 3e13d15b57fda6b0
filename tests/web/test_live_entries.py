"""Facts of the feed are the entries that the log has for them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given

from builders.facts import BEGIN, fact_of, facts, stage_of, stages
from builders.log_entries import live, live_stage
from dnstrail.captured import LAST_TIME
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.process.terminal import json_line
from dnstrail.protocol.batches import Batch
from dnstrail.protocol.fact_batches import FactArguments, WireFact
from dnstrail_web.live_entries import entries_of, line_with_domain


def row(fact, time):
    """Return a fact in its form on the bus."""
    return WireFact(0, time, b"", fact.flow, FactArguments(fact.values), 0, 0), fact.process


def read(topic, host, rows, difference=0):
    """Return the entries of facts whose ids refer to the start s."""
    return [*entries_of(topic, Batch("c", 0, 0, [], host=host, probe="s"), rows, difference, pytest.fail)]


@given(facts())
def test_a_question_is_the_entry_of_the_log(fact):
    """A transaction that arrives is the entry that the log reads from the bus."""
    assert read(DNS_TRANSACTION, fact.host, [row(fact, fact.ended)]) == [live(fact)]


@given(stages())
def test_a_stage_is_the_entry_of_the_log(fact):
    """A stage of a connection that arrives is the entry that the log reads from the bus."""
    assert read(NET_CONNECTION, fact.host, [row(fact, fact.time)]) == [live_stage(fact)]


def test_an_id_refers_to_the_start_of_its_batch():
    """The entry of a fact whose id refers to its batch is the entry of the fact with the whole id."""
    whole, short = fact_of(asked_for="s/0/1"), fact_of(id=(0, 0), asked_for="s/0/1")
    short = msgspec.structs.replace(short, values=msgspec.structs.replace(short.values, asked_for=(0, 1)))
    assert read(DNS_TRANSACTION, whole.host, [row(short, whole.ended)]) == [live(whole)]
    stage, topic = stage_of(), "net_tcp_connect"
    values = msgspec.structs.replace(stage.values, id=(topic, 0, 0))
    short = msgspec.structs.replace(stage, values=values)
    assert read(NET_CONNECTION, stage.host, [row(short, stage.time)]) == [live_stage(stage)]


def test_an_id_without_a_start_costs_no_other():
    """A fact whose id names no start is refused, and the others of its batch are not."""
    for topic, fact, short in (
        (DNS_TRANSACTION, fact_of(), (0, 0)),
        (DNS_TRANSACTION, fact_of(), "s"),
        (NET_CONNECTION, stage_of(), ("net_tcp_connect", 0, 0)),
    ):
        bad = msgspec.structs.replace(fact, values=msgspec.structs.replace(fact.values, id=short))
        rows, refused = [row(one, BEGIN) for one in (fact, bad, fact)], []
        assert len([*entries_of(topic, Batch("c", 0, 0, []), rows, 0, refused.append)]) == 2
        assert ["without a start" in str(error) for error in refused] == [True]


def test_a_line_has_the_registered_domain():
    """A line has the registered domain of its name, "" where there is none, and is else the line of the log."""
    for name, domain in (("a.b.example.co.uk", "example.co.uk"), ("uk", ""), ('"}\n', ""), (None, "")):
        for entry in (msgspec.structs.replace(live_stage(stage_of()), name=name), live(fact_of(name=name or ""))):
            line = json.loads(line_with_domain(entry))
            assert line.pop("domain") == domain
            assert line == json.loads(json_line(entry))


def test_times_are_wall_times():
    """The difference of the clock is added; a fact at no time is left out."""
    for fact, topic in ((fact_of(), DNS_TRANSACTION), (stage_of(), NET_CONNECTION)):
        rows = [row(fact, BEGIN - 5), row(fact, LAST_TIME), row(fact, -6)]
        assert [entry.timestamp for entry in read(topic, "h", rows, 5)] == [BEGIN]
