"""Lives state when each asker was given a relation, by day, whatever the segments and restarts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.facts import BEGIN, SECOND, fact_of, lives, progress_of
from dnstrail.captured import Process
from dnstrail.history import lives as lives_of_segments
from dnstrail.history import segment as segments
from dnstrail.history.closing import finish
from dnstrail.history.fact import Fact
from dnstrail.history.lives import AskingProgram, RelationLife, merge_lives
from dnstrail_history.store import store as module
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

SMALL = 3  # transactions of a segment
DAY = 86_400
YEAR_END = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
ASKERS = (
    Process(7, "curl", "/usr/bin/curl", container_id="c0ffee", container_name="web"),
    Process(8, "curl", "/usr/bin/curl", container_id="c0ffee", container_name="web", thread_id=9),
    Process(9, "ping"),
    None,
)


@dataclass
class Naive:
    """A life as a reader of the design would compute it: from all sightings (segment, time, TTL), sorted by time."""

    sightings: list[tuple[int, int, int]]

    def life(self, day: int, relation: tuple[str, str, str], asker: AskingProgram) -> RelationLife:
        """Return the life of these sightings."""
        gaps, end = -1, 0
        for _, of_segment in groupby(sorted(self.sightings), itemgetter(0)):
            held = end  # by the first answer of a segment all before it count, then those of the segment
            for place, (_, at, ttl) in enumerate(of_segment):
                gaps += at > held
                held = max(held, at + ttl) if place else at + ttl
                end = max(end, at + ttl)
        first, last = min(self.sightings)[1], max(self.sightings)[1]
        return RelationLife(day, relation, asker, first, last, end, len(self.sightings), gaps)


def expected(facts: list[Fact]) -> list[RelationLife]:
    """Return the lives of some facts in segments of SMALL."""
    found: dict[tuple, Naive] = {}
    for number, fact in enumerate(facts):
        process = fact.process or Process()
        asker = AskingProgram(process.path or process.name, process.container_name or process.container_id)
        seconds = fact.ended // SECOND
        for owner, kind, target, ttl in fact.values.owned if fact.values.admitted else ():
            key = seconds // DAY, (owner, kind, target), asker
            found.setdefault(key, Naive([])).sightings.append((number // SMALL, seconds, ttl))
    return sorted(one.life(*key) for key, one in found.items())


SIGHTINGS = st.lists(
    st.tuples(
        st.integers(0, 20),  # seconds since the one before
        st.sampled_from(ASKERS),
        st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "b.example"]), st.integers(0, 30)), max_size=2),
        st.booleans(),
    ),
    max_size=25,
)


@given(sightings=SIGHTINGS)
def test_lives_are_those_of_all_sightings(sightings):
    """First, last, end, count and gaps by day are those of a plain computation, over segments and the end of a year."""
    added, seconds = [], YEAR_END - 200
    for number, (passed, process, targets, admitted) in enumerate(sightings):
        seconds += passed
        relations = tuple(("a.example", 1, target, ttl) for target, ttl in dict(targets).items())
        stated = {"relations": relations, "process": process, "admitted": admitted if relations else None}
        added.append(fact_of(number, ended=seconds * SECOND, name="a.example", **stated))
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "MOST_TRANSACTIONS", SMALL)
        patched.setattr(module, "MOST_TRANSACTIONS", SMALL)
        folder = Path(name, "history")
        with closing(FactStore(folder, FakeClock())) as store:
            for number, fact in enumerate(added):
                store.add(fact)
                store.commit(progress_of(number))
        [last] = folder.glob("*.open") if added else [None]
        if last is not None:
            finish(last)
        assert lives(folder) == expected(added)
        assert {int(path.stem) for path in folder.glob("*.lives")} <= {2026, 2027}


def test_a_segment_with_too_many_lives_is_finished(tmp_path, monkeypatch):
    """The lives beyond a number are left out and counted; those within it go on."""
    monkeypatch.setattr(lives_of_segments, "MOST_SPANS", 6)
    folder, clock = tmp_path / "history", FakeClock()
    relations = tuple(("a.example", 1, f"192.0.2.{one}", 60) for one in range(5))
    with closing(FactStore(folder, clock)) as store:
        for number, name in enumerate(("one", "two", "three", "one")):
            assert store.add(fact_of(number, process=Process(7, name), relations=relations))
        assert store.commit(progress_of(1))
        monkeypatch.setattr(segments, "MOST_TRANSACTIONS", 4)
        assert store.commit(progress_of(2))
        wait_until(lambda: store.step() or store.counters["finished"], "the segment")
        assert store.counters["lives_left_out"] == 4 + 5
    found = lives(folder)
    assert (len(found), sum(one.answers for one in found)) == (6, 5 + 1 + 5)


def test_the_lives_of_a_segment_are_merged_once(tmp_path):
    """A segment that is finished again, after an interruption, adds nothing."""
    life = RelationLife(20_000, ("a.example", 1, "192.0.2.1"), AskingProgram("curl", ""), 5, 6, 70, 2, 0)
    for name in ("0000000001", "0000000001", "0000000002"):
        merge_lives(tmp_path, name, [life])
    assert lives(tmp_path) == [life._replace(answers=4)]


@pytest.mark.parametrize(
    ("bound", "value", "expected"),
    [("MOST_OF_DAY", 2, [(20_000, 1), (20_000, 2), (20_001, 3)]), ("MOST_BYTES", 1, [(20_000, 1)])],
)
def test_a_day_and_a_year_have_a_bound(tmp_path, monkeypatch, bound, value, expected):
    """Beyond it lives that the file has go on, and others are left out with all their texts, and counted."""
    curl, other = AskingProgram("curl", ""), AskingProgram("other", "")
    first, second, third = (("a.example", 1, f"192.0.2.{one}") for one in (1, 2, 3))
    life = RelationLife(20_000, first, curl, 5, 6, 70, 2, 0)
    assert merge_lives(tmp_path, "0000000001", [life]) == 0
    monkeypatch.setattr(lives_of_segments, bound, value)
    added = [
        life,
        life._replace(relation=second, answers=3),
        life._replace(asker=other, answers=4),
        life._replace(day=20_001, relation=third, answers=5),
    ]
    left_out = merge_lives(tmp_path, "0000000002", added)
    found = lives(tmp_path)
    assert [(one.day, int(one.relation[2][-1])) for one in found] == expected
    assert (found[0].answers, left_out + sum(one.answers for one in found)) == (4, 2 + 2 + 3 + 4 + 5)
    with closing(sqlite3.connect(tmp_path / "2024.lives")) as database:
        assert database.execute("SELECT count(*) FROM askers").fetchone() == (1,)


def test_an_interrupted_merge_leaves_nothing(tmp_path, monkeypatch):
    """A merge that fails adds neither lives nor the name of its segment."""
    life = RelationLife(20_000, ("a.example", 1, "192.0.2.1"), AskingProgram("curl", ""), 5, 6, 70, 2, 0)
    with pytest.raises(OverflowError):
        merge_lives(tmp_path, "0000000001", [life, life._replace(day=20_001, answers=1 << 64)])
    assert lives(tmp_path) == []
    merge_lives(tmp_path, "0000000001", [life])
    assert lives(tmp_path) == [life]


def test_lives_of_old_years_are_removed(tmp_path):
    """The lives of a year are removed a year after its end."""
    folder = tmp_path / "history"
    clock = FakeClock(wall=BEGIN / SECOND)
    with closing(FactStore(folder, clock)) as store:
        for year in (2024, 2025, 2026):
            day = int(datetime(year, 6, 1, tzinfo=UTC).timestamp()) // DAY
            merge_lives(folder, "0000000001", [RelationLife(day, ("a", 1, "b"), AskingProgram("", ""), 1, 2, 3, 1, 0)])
        store.step()
        assert sorted(path.name for path in folder.glob("*.lives")) == ["2025.lives", "2026.lives"]
