"""Outcomes and latency by minute: exact counts, bounded keys and minutes, and losses beside them."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from builders.facts import BEGIN, SECOND, fact_of
from builders.log_entries import fill, live
from dnstrail_web import health as module
from dnstrail_web.health import KEPT, MINUTE, MOST_KEYS, OTHERS, Health, past_health

QUESTION = live(fact_of(1))
START = BEGIN // SECOND // MINUTE * MINUTE


def question(minute: int = 0, **values):
    return msgspec.structs.replace(QUESTION, timestamp=(START + minute * MINUTE + 1) * SECOND, **values)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["answered", "nxdomain"]), st.integers(0, 10**11))))
def test_each_question_is_counted_once(asked):
    """The outcomes of all minutes are those of the questions, and no latency exceeds the slowest."""
    health = Health()
    health.add(question(minute, outcome=outcome, waited=waited) for minute, outcome, waited in asked)
    shown = health.shown(0, 1e12)
    counted = Counter()
    for bucket in shown:
        [one] = bucket["resolvers"].values()
        counted.update(one["outcomes"])
        if one["slowest"] is not None:
            assert 0 <= one["median"] <= one["p95"] <= one["slowest"]
    assert counted == Counter(outcome for _, outcome, _ in asked)
    waits = [waited for _, outcome, waited in asked if outcome == "answered"]
    slowest = [one["slowest"] for bucket in shown for one in bucket["processes"].values() if one["slowest"] is not None]
    assert max(slowest, default=None) == max((waited / SECOND for waited in waits), default=None)


def test_keys_are_bounded():
    """Beyond the bound of a minute resolvers and processes are added up."""
    health = Health()
    health.add(question(dst=f"192.0.2.{number}", process_name=f"p{number}") for number in range(MOST_KEYS + 8))
    [bucket] = health.shown(0, 1e12)
    for side in ("resolvers", "processes"):
        assert len(bucket[side]) == MOST_KEYS + 1
        assert sum(bucket[side][OTHERS]["outcomes"].values()) == 8


def test_minutes_are_bounded():
    """Beyond the bound the oldest minute goes, and what comes for an earlier one is left out."""
    health = Health()
    health.add(question(minute) for minute in range(KEPT + 5))
    health.add([question(0)])
    shown = health.shown(0, 1e12)
    assert [bucket["start"] for bucket in shown] == [START + minute * MINUTE for minute in range(5, KEPT + 5)]


def test_a_loss_is_in_its_minute():
    """What was lost since the count before is in its minute; without a count nothing is known."""
    health = Health()
    health.add(question(minute) for minute in range(4))
    for minute, total in ((0, 10), (1, 10), (2, 17), (3, None)):
        health.count_lost(total, START + minute * MINUTE)
    assert [bucket["lost"] for bucket in health.shown(0, 1e12)] == [0, 0, 7, None]
    assert health.lost_between(START, START + 3 * MINUTE) == 7
    assert health.lost_between(START, START + 4 * MINUTE) is None


def test_a_cache_that_starts_anew_is_no_negative_loss():
    """A new cache counts from 0."""
    health = Health()
    for total in (10, 0, 3):
        health.count_lost(total, START)
    assert health.shown(0, 1e12)[0]["lost"] == 3


def test_the_past_is_read_from_the_history(tmp_path, monkeypatch):
    """The same questions make the same minutes from the history, up to a bound of entries."""
    facts = [fact_of(number, ended=BEGIN + number * 30 * SECOND) for number in range(8)]
    fill(tmp_path / "h", facts)
    health = Health()
    health.add(live(fact) for fact in facts)
    found, is_whole = past_health(tmp_path / "h", START, START + 600, lambda _: None)
    assert is_whole
    assert found.shown(0, 1e12) == health.shown(0, 1e12) != []
    monkeypatch.setattr(module, "MOST_ENTRIES", 3)
    found, is_whole = past_health(tmp_path / "h", START, START + 600, lambda _: None)
    assert not is_whole
    week, _ = past_health(tmp_path / "h", START, START + 7 * 86400, lambda _: None)
    assert 7 * 86400 / KEPT <= week.seconds <= 7 * 86400 / KEPT + MINUTE
