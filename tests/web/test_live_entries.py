"""Facts of the feed are the entries that the log has for them."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given

from builders.facts import BEGIN, fact_of, facts, stage_of, stages
from builders.log_entries import live, live_stage
from dnstrail.captured import LAST_TIME
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.process.terminal import json_line
from dnstrail.protocol.fact_batches import FactArguments, WireFact
from dnstrail_web.live_entries import entries_of, line_with_domain


def row(fact, time):
    """Return a fact in its form on the bus."""
    return WireFact(0, time, b"", fact.flow, FactArguments(fact.values), 0, 0), fact.process


@given(facts())
def test_a_question_is_the_entry_of_the_log(fact):
    """A transaction that arrives is the entry that the log reads from the bus."""
    assert [*entries_of(DNS_TRANSACTION, fact.host, [row(fact, fact.ended)], 0)] == [live(fact)]


@given(stages())
def test_a_stage_is_the_entry_of_the_log(fact):
    """A stage of a connection that arrives is the entry that the log reads from the bus."""
    assert [*entries_of(NET_CONNECTION, fact.host, [row(fact, fact.time)], 0)] == [live_stage(fact)]


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
        assert [entry.timestamp for entry in entries_of(topic, "h", rows, 5)] == [BEGIN]
