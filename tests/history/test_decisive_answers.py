"""A past lookup of a name or an address reads few answers, and finds the same as by all of them.

Tests of dnstrail_history.past.contents.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from random import Random

import pytest

from builders.facts import BEGIN, RELATIONS, SECOND, fact_of, progress_of
from builders.past import ANYBODY, Played, asked_again, asked_of, play_generated, shown
from dnstrail.history import segment as segments_of_store
from dnstrail.history.segment import Stretch
from dnstrail.image import Bounds
from dnstrail_history.past.reading import past_image
from dnstrail_history.past.segment_readers import FullSegment
from dnstrail_history.past.segments import Segments
from dnstrail_history.store import store as module
from dnstrail_history.store.store import FactStore
from live.processes import wait_until
from live.workers import FakeClock

OTHER = (("c.example", 1, "192.0.2.1", 30),)
LATE = (("d.example", 1, "192.0.2.1", 30),)


def stored(folder, facts, count=1):
    """Store facts in full segments, as many in each, and return the path of the last one."""
    with pytest.MonkeyPatch.context() as patched:
        for one in (segments_of_store, module):
            patched.setattr(one, "MOST_TRANSACTIONS", len(facts) // count)
        with closing(FactStore(folder, FakeClock())) as store:
            for fact in facts:
                assert store.add(fact)
            for turn in (1, 2):
                assert store.commit(progress_of(turn)._replace(stretch=Stretch(BEGIN, BEGIN + 3600 * SECOND)))
            wait_until(lambda: store.step() or store.counters["finished"] == count, "the segments")
    return max(folder.glob("*.segment"))


def found_by(folder, key, at, *, decisive):
    """Return what a lookup finds, and how many answers it applied."""
    with closing(Segments(folder)) as segments, segments.opened() as opened:
        past = past_image(opened, [key], at, Bounds(), lambda: False, with_ended=False, decisive=decisive)
    return past.image.get(key, now=at), past.image.store.answers


@pytest.mark.parametrize("seed", range(5, 7))
def test_the_decisive_answers_give_the_result_of_all(tmp_path, monkeypatch, seed):
    """Whatever was answered, a lookup finds the same by the answers that decide what is live, and reads fewer."""
    for one in (segments_of_store, module):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", 150)
    played = Played(tmp_path / "history", Bounds())
    play_generated(played, Random(seed), 120)
    assert played.differences() == []
    counts: Counter[bool] = Counter()
    with closing(Segments(tmp_path / "history")) as segments:
        for one in played.asked:
            found = []
            for decisive in (True, False):
                with segments.opened() as opened:
                    past = past_image(
                        opened, [one.key], one.at, Bounds(), lambda: False, with_ended=False, decisive=decisive
                    )
                [asked] = asked_of(past.image, [one.key], one.at, [ANYBODY])
                found.append((asked.found, past.whole))
                counts[decisive] += past.image.store.answers
            assert found[0] == found[1], one
    assert 0 < counts[True] < counts[False]


def test_a_full_segment_states_the_question_of_an_answer(tmp_path):
    """None is stated of answers to several questions, of doubted ones, and of those that arrived out of order."""
    facts = [
        fact_of(1, ended=BEGIN, relations=OTHER),
        fact_of(2, ended=BEGIN + SECOND, relations=OTHER),
        fact_of(3, ended=BEGIN, relations=RELATIONS),
        fact_of(4, ended=BEGIN, relations=RELATIONS, name="alias.example"),
        fact_of(5, ended=BEGIN + SECOND, relations=LATE),
        fact_of(6, ended=BEGIN, relations=LATE),
        fact_of(7, relations=(("e.example", 1, "192.0.2.1", 30),), matched=False, doubted=True),
    ]
    with closing(sqlite3.connect(stored(tmp_path / "history", facts))) as database:
        rows = database.execute("SELECT answer, texts.text FROM spans LEFT JOIN texts ON texts.id = question")
        assert sorted(rows) == [(1, "c.example"), (2, None), (3, None), (4, None)]


def test_equal_statements_have_one_digest_in_all_segments(tmp_path):
    """The digest is one of the question, if it is one, and of the relations in their order, whatever their ids."""
    turned = (("c.example", 1, "192.0.2.2", 30), ("c.example", 1, "192.0.2.1", 30))
    statements = [("a.example", OTHER), ("a.example", turned), ("a.example", turned[::-1]), ("b.example", OTHER)]
    digests = []
    for name, order in (("one", statements), ("other", statements[::-1])):
        facts = [
            fact_of(number, ended=BEGIN + number * SECOND, name=question, relations=relations)
            for number, (question, relations) in enumerate(order[: 3 if name == "one" else 4])
        ]
        with closing(sqlite3.connect(stored(tmp_path / name, facts))) as database:
            digests.append([digest for [digest] in database.execute("SELECT digest FROM spans ORDER BY answer")])
    assert [len(of_one) for of_one in digests] == [3, 3]
    assert len({*digests[0]}) == 3
    assert {*digests[0]} & {*digests[1]} == {*digests[0][1:]}  # two questions were given the same relations


def test_an_answer_that_arrived_late_is_not_the_latest(tmp_path):
    """The names of an address stand in the order of their last answers, whatever the order of arrival."""
    facts = [
        fact_of(1, ended=BEGIN + 5 * SECOND, relations=LATE),
        fact_of(2, ended=BEGIN + 4 * SECOND, relations=OTHER),
        fact_of(3, ended=BEGIN + 3 * SECOND, relations=LATE),
    ]
    stored(tmp_path / "history", facts)
    for decisive in (True, False):
        found, _ = found_by(tmp_path / "history", "192.0.2.1", BEGIN + 6 * SECOND, decisive=decisive)
        assert found.dns_queries == ["d.example", "c.example"]


def relations_of(alias_ttl, address_ttl):
    return (("a.example", 5, "b.example", alias_ttl), ("b.example", 1, "192.0.2.1", address_ttl))


@pytest.mark.parametrize("count", [3, 15, 16, 17, 63, 64, 65])
def test_a_relation_that_an_early_answer_keeps_live(tmp_path, count):
    """Later answers give one relation a short life: it is live by an early one, as by all answers."""
    facts = [fact_of(0, ended=BEGIN, relations=relations_of(3600, 60))]
    facts += [
        fact_of(number, ended=BEGIN + number * SECOND, relations=relations_of(1, 60)) for number in range(1, count)
    ]
    stored(tmp_path / "history", facts)
    grace = int(Bounds().grace * SECOND)
    for at in (BEGIN + count * SECOND, BEGIN + (count + 1) * SECOND + grace, BEGIN + (count + 40) * SECOND + grace):
        for key in ("a.example", "192.0.2.1"):
            few, all_of_them = (found_by(tmp_path / "history", key, at, decisive=one) for one in (True, False))
            assert few[0] == all_of_them[0] is not None
            assert few[1] <= all_of_them[1]


def test_a_hot_answer_is_read_once(tmp_path):
    """The last answer alone is read where all its relations are live; else 32 of them, and the sum of the others."""
    facts = [fact_of(number, ended=BEGIN + number * SECOND) for number in range(100)]
    stored(tmp_path / "history", facts)
    found, applied = found_by(tmp_path / "history", "192.0.2.1", BEGIN + 100 * SECOND, decisive=True)
    assert (found.dns_root, applied) == ("a.example", 1)
    assert (found, 33) == found_by(tmp_path / "history", "192.0.2.1", BEGIN + 100 * SECOND, decisive=False)


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_segment_without_digests_beside_one_with_them(tmp_path, monkeypatch, left_out):
    """The earlier of two segments, or the later one, was written by an earlier version: a lookup finds the same."""
    for one in (segments_of_store, module):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", 60)
    played = Played(tmp_path / "history", Bounds())
    play_generated(played, Random(9), 60)
    assert played.differences() == []
    paths = sorted((tmp_path / "history").glob("*.segment"))
    assert len(paths) > 1
    for path in paths[left_out::2]:
        with closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE spans DROP COLUMN digest")
    assert asked_again(tmp_path / "history", played.asked, Bounds(), shown) == []


@pytest.mark.parametrize(("seconds", "read"), [(3, [3]), (70, [3]), (40, [3, 2, 1])], ids=["live", "grace", "partly"])
def test_segments_that_decide_nothing_more_are_not_read(tmp_path, monkeypatch, seconds, read):
    """A lookup goes back in time until no earlier answer can have kept a relation live, and finds the same as by all.

    In the last segment the address lives for 30 s; in those before, the alias for 60 s.
    """
    facts = [fact_of(number, ended=BEGIN + number, relations=relations_of(60, 30)) for number in range(4)]
    facts += [fact_of(number, ended=BEGIN + number, relations=relations_of(30, 30)) for number in range(4, 6)]
    stored(tmp_path / "history", facts, 3)
    found = []

    def last_undoubted(segment, *given, original=FullSegment.last_undoubted):
        found.append(segment.number)
        return original(segment, *given)

    monkeypatch.setattr(FullSegment, "last_undoubted", last_undoubted)
    few, all_of_them = (
        found_by(tmp_path / "history", "192.0.2.1", BEGIN + seconds * SECOND, decisive=one) for one in (True, False)
    )
    assert few[0] == all_of_them[0] is not None
    assert found == read


def test_a_segment_of_an_earlier_version_is_read_whole(tmp_path):
    """Its answers state no question: a lookup reads all of them, and finds the same."""
    path = stored(tmp_path / "history", [fact_of(number, ended=BEGIN + number * SECOND) for number in range(5)])
    at = BEGIN + 6 * SECOND
    new, one = found_by(tmp_path / "history", "a.example", at, decisive=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE spans DROP COLUMN question")
    assert (new, 5) == found_by(tmp_path / "history", "a.example", at, decisive=True)
    assert one == 1
