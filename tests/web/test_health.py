"""Outcomes and latency by minute: exact counts, bounded keys and minutes, and losses beside them."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.facts import BEGIN, SECOND, fact_of
from builders.log_entries import fill, live
from dnstrail_web import past_health as past_module
from dnstrail_web.health import KEPT, MINUTE, MOST_KEYS, OTHERS, Health
from dnstrail_web.past_health import PastHealth

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


def test_processes_of_one_question_hide_no_other_process():
    """Beyond the bound those with the fewest questions are added up, also if the others came late."""
    health = Health()
    for turn in range(3):
        health.add(question(process_name=f"p{turn}-{number}") for number in range(MOST_KEYS * 2))
        health.add([question(process_name="late")] * 2)
    [bucket] = health.shown(0, 1e12)
    assert sum(bucket["processes"]["late"]["outcomes"].values()) == 6
    asked = sum(sum(one["outcomes"].values()) for one in bucket["processes"].values())
    assert asked == 3 * (MOST_KEYS * 2 + 2)


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
    health.count_lost(22, START + 4 * MINUTE)
    assert health.shown(0, 1e12)[-1]["lost"] == 5
    assert losses_of_a_day(health) == [12]


def losses_of_a_day(health: Health) -> list[int | None]:
    """Return the losses by day."""
    wide = Health(86_400)
    wide.include(health, 0, 1e12)
    return [bucket["lost"] for bucket in wide.shown(0, 1e12)]


def test_a_wide_bucket_in_which_nobody_counted_has_no_losses():
    """Nothing is known of the losses of minutes in which no count was made."""
    health = Health()
    health.add(question(minute) for minute in range(3))
    assert losses_of_a_day(health) == [None]


def test_a_cache_that_starts_anew_is_no_negative_loss():
    """A new cache counts from 0."""
    health = Health()
    for total in (10, 0, 3):
        health.count_lost(total, START)
    assert health.shown(0, 1e12)[0]["lost"] == 3


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 12))
def test_wide_buckets_have_all_questions(begin, length, most):
    """The questions of minutes are those of the wide buckets that include them, from a time on."""
    health = Health()
    health.add(question(minute, outcome="nxdomain") for minute in range(13))
    wide = Health(length * MINUTE)
    wide.include(health, 0, START + most * MINUTE, START + begin * MINUTE)
    shown = [one for bucket in wide.shown(0, 1e12) for one in bucket["resolvers"].values()]
    assert sum(one["outcomes"]["nxdomain"] for one in shown) == len(range(begin, most + 1))


@pytest.fixture
def past(tmp_path):
    """Eight questions of four minutes, and the folder that has them."""
    facts = [fact_of(number, ended=BEGIN + number * 30 * SECOND) for number in range(8)]
    fill(tmp_path / "h", facts)
    return facts, tmp_path / "h"


def counts(health: Health) -> list[int]:
    """Return the questions of each bucket."""
    shown = [[*bucket["resolvers"].values()] for bucket in health.shown(0, 1e12)]
    return [sum(sum(one["outcomes"].values()) for one in resolvers) for resolvers in shown]


def test_the_past_is_read_from_the_history(past):
    """The same questions make the same minutes from the history; a week has wide buckets."""
    facts, folder = past
    health = Health()
    health.add(live(fact) for fact in facts)
    found, is_whole = PastHealth().read(folder, Health(), START, START + 600, 1e12)
    assert is_whole
    assert found.shown(0, 1e12) == health.shown(0, 1e12) != []
    week, _ = PastHealth().read(folder, Health(), START, START + 7 * 86400, 1e12)
    assert 7 * 86400 / KEPT <= week.seconds <= 7 * 86400 / KEPT + MINUTE


def test_beyond_the_bound_the_newest_entries_are_read(past, monkeypatch):
    """The newest entries are shown, and the reply is not complete."""
    facts, folder = past
    monkeypatch.setattr(past_module, "MOST_ENTRIES", 3)
    found, is_whole = PastHealth().read(folder, Health(), START, START + 600, 1e12)
    expected = Health()
    expected.add(live(fact) for fact in facts[-3:])
    assert (is_whole, found.shown(0, 1e12)) == (False, expected.shown(0, 1e12))


def test_the_memory_of_the_worker_comes_before_the_history(past):
    """Minutes that the worker remembers whole are its own; the history has those before, and its first minute."""
    facts, folder = past
    own = Health(since=BEGIN // SECOND + 90)
    own.add(live(fact) for fact in facts[3:])
    own.count_lost(0, BEGIN // SECOND + 90)
    own.count_lost(4, BEGIN // SECOND + 210)
    found, _ = PastHealth().read(folder, own, START, START + 600, 1e12)
    assert sum(counts(found)) == 8
    assert sum(bucket["lost"] or 0 for bucket in found.shown(0, 1e12)) == 4


@pytest.mark.parametrize("minute", [-2 * 1440, 1440], ids=["behind", "ahead"])
def test_a_question_of_a_wrong_time_hides_no_history(past, minute):
    """A writer with old or future stamps does not make the memory of the worker begin earlier."""
    facts, folder = past
    own = Health(since=BEGIN // SECOND + 90)
    own.add([question(minute)])
    own.add(live(fact) for fact in facts[3:])
    assert own.begin == START + 3 * MINUTE
    found, is_whole = PastHealth().read(folder, own, START, START + 600, 1e12)
    assert (is_whole, sum(counts(found))) == (True, 8)


def test_the_memory_begins_after_what_was_forgotten():
    """A minute that was forgotten, and has a further question since, is not remembered whole."""
    health = Health(most=3, since=START)
    for minute in range(5):
        health.count_lost(0, START + minute * MINUTE)
        health.add([question(minute)])
    assert health.begin == START + 2 * MINUTE
    health.add(question(minute) for minute in (99, 98))
    health.count_lost(0, START + 5 * MINUTE)
    health.add([question(1)])
    assert health.begin == START + 3 * MINUTE


@pytest.mark.parametrize("minutes", [1440, 3 * KEPT])
def test_a_clock_that_was_ahead_leaves_room_for_the_present(minutes):
    """Full of minutes of a time ahead, the memory drops them for the present ones, losses too."""
    health = Health(since=(START + minutes * MINUTE))
    for minute in range(KEPT + 5):
        health.count_lost(0, START + (minutes + minute) * MINUTE)
        health.add([question(minutes + minute)])
    for minute in range(3):
        health.count_lost(minute, START + minute * MINUTE)
        health.add([question(minute)])
    shown = [(bucket["start"], bucket["lost"]) for bucket in health.shown(0, START + 1e6)]
    assert shown == [(START + minute * MINUTE, int(minute > 0)) for minute in range(3)]


def test_a_clock_that_was_behind_claims_no_past():
    """A worker that started before its host heard the time remembers all questions since it was set right."""
    health = Health(since=60.0)
    health.count_lost(0, 70.0)
    health.count_lost(0, START + 5.0)
    assert health.begin == START + MINUTE


def test_a_past_time_is_read_once(past, monkeypatch):
    """A request reads only what no earlier one has read, and a moving window shows what a new reading would."""
    _, folder = past
    read = []
    fill_of = past_module._fill
    monkeypatch.setattr(past_module, "_fill", lambda *args: read.append(args[2:]) or fill_of(*args))
    kept = PastHealth()
    first, _ = kept.read(folder, Health(), START, START + 120, 1e12)
    again, _ = kept.read(folder, Health(), START, START + 120, 1e12)
    assert first.shown(0, 1e12) == again.shown(0, 1e12) != []
    for step in range(1, 8):
        moved = START + 60 * step, START + 120 + 60 * step
        found, is_whole = kept.read(folder, Health(), *moved, 1e12)
        anew, _ = PastHealth().read(folder, Health(), *moved, 1e12)
        assert (is_whole, found.shown(*moved)) == (True, anew.shown(*moved))
    assert read[:1] == [(START, START + 120)]
    assert (START + 120, START + 180) in read
    assert sum(begin == START for begin, _ in read) == 1


def test_what_the_history_may_still_receive_is_read_again(past):
    """The last minutes are not kept: the history may receive more of them."""
    _, folder = past
    kept = PastHealth()
    now = START + 130.0
    assert sum(counts(kept.read(folder, Health(), START, START + 600, now)[0])) == 8
    with patch.object(past_module, "_fill", return_value=True):
        assert counts(kept.read(folder, Health(), START, START + 600, now)[0]) == []


def test_lengths_of_buckets_are_bounded(past):
    """Past outcomes are kept for few lengths of a bucket."""
    _, folder = past
    kept = PastHealth()
    for days in (1, 2, 3, 4):
        kept.read(folder, Health(), START - days * 86400, START, 1e12)
    assert len(kept._kept) == past_module.MOST_LENGTHS
