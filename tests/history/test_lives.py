"""Lives state when each asker was given a relation, by day, whatever the segments and restarts."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
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
from dnstrail.history.database import open_reader
from dnstrail.history.fact import Fact
from dnstrail.history.lives import LIVES, AskingProgram, RelationLife, lives_of, merge_lives, year_of
from dnstrail.history.lives_parts import keep_part, kept_until
from dnstrail.history.segment import SCHEMA
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


def expected(facts: list[Fact], part_of: Callable[[int], int] = lambda number: number // SMALL) -> list[RelationLife]:
    """Return the lives of some facts in segments of SMALL, or in other parts."""
    found: dict[tuple, Naive] = {}
    for number, fact in enumerate(facts):
        process = fact.process or Process()
        asker = AskingProgram(process.path or process.name, process.container_name or process.container_id)
        seconds = fact.ended // SECOND
        for owner, kind, target, ttl in fact.values.owned if fact.values.admitted else ():
            key = seconds // DAY, (owner, kind, target), asker
            found.setdefault(key, Naive([])).sightings.append((part_of(number), seconds, ttl))
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


def facts_of(sightings: list[tuple]) -> list[Fact]:
    """Return the facts of sightings around the end of a year."""
    found, seconds = [], YEAR_END - 200
    for number, (passed, process, targets, admitted) in enumerate(sightings):
        seconds += passed
        relations = tuple(("a.example", 1, target, ttl) for target, ttl in dict(targets).items())
        stated = {"relations": relations, "process": process, "admitted": admitted if relations else None}
        found.append(fact_of(number, ended=seconds * SECOND, name="a.example", **stated))
    return found


@given(sightings=SIGHTINGS)
def test_lives_are_those_of_all_sightings(sightings):
    """First, last, end, count and gaps by day are those of a plain computation, over segments and the end of a year."""
    added = facts_of(sightings)
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


@given(sightings=SIGHTINGS, breaks=st.sets(st.integers(0, 24)), interrupted=st.booleans())
def test_lives_are_kept_in_parts(sightings, breaks, interrupted):
    """However often the lives of an open segment are kept, each answer counts once; those of two years wait."""
    added, parts, after = facts_of(sightings), {}, 0
    with TemporaryDirectory() as name:
        folder = Path(name, "history")
        with closing(FactStore(folder, FakeClock())) as store:
            for number, fact in enumerate(added):
                store.add(fact)
                store.commit(progress_of(number))
                if number in breaks:
                    keep_part(folder / "0000000001.open")
                    news = {year_of(one) for one in expected(added[after : number + 1])}
                    if len(news) == 1:
                        parts |= dict.fromkeys(range(after, number + 1), number)
                        after = number + 1
        if added:
            path = folder / "0000000001.open"
            assert kept_until(path) == after
            if interrupted:  # after the merge of the lives
                with closing(open_reader(path, SCHEMA, final=False)) as segment:
                    merge_lives(folder, path.stem, lives_of(segment, after=after))
            finish(path)
        assert lives(folder) == expected(added, lambda number: parts.get(number, len(added)))


def test_the_lives_of_a_part_wait_while_a_reader_reads(tmp_path):
    """Lives are kept once the disk has their transactions in the segment, which a reader of an earlier state delays."""
    folder = tmp_path / "history"
    path = folder / "0000000001.open"
    with closing(FactStore(folder, FakeClock())) as store:
        assert store.add(fact_of(1))
        assert store.commit(progress_of(1))
        with closing(open_reader(path, SCHEMA, final=False)) as database:
            database.execute("BEGIN")
            assert database.execute("SELECT count(*) FROM transactions").fetchone() == (1,)
            assert store.add(fact_of(2))
            assert store.commit(progress_of(2))
            assert (keep_part(path), kept_until(path), lives(folder)) == (0, 0, [])
        assert (keep_part(path), kept_until(path)) == (0, 2)


def test_the_lives_of_an_open_segment_are_kept(tmp_path, monkeypatch):
    """The worker keeps them each time when enough facts were added, and no later segment gets the name of this one."""
    monkeypatch.setattr(module, "PART", 4)
    folder, names = tmp_path / "history", []
    with closing(FactStore(folder, FakeClock())) as store:
        for number in range(11):
            assert store.add(fact_of(number, ended=BEGIN + number * SECOND))
            assert store.commit(progress_of(number))
            wait_until(lambda: store.step() or len(kept_names(folder)) >= (number + 1) // 4, "the part")  # noqa: B023
            names.append(kept_names(folder))
        assert store.counters["finished"] == 0
    assert (
        names == [[]] * 3 + [["0000000001/0000000004"]] * 4 + [["0000000001/0000000004", "0000000001/0000000008"]] * 4
    )
    assert {(one.first, one.last, one.answers) for one in lives(folder)} == {(BEGIN // SECOND, BEGIN // SECOND + 7, 8)}
    (folder / "0000000001.open").unlink()
    with closing(FactStore(folder, FakeClock())) as store:
        assert store.add(fact_of(20))
        assert store.commit(progress_of(20))
    assert [path.name for path in folder.glob("0*")] == ["0000000002.open"]


@pytest.mark.parametrize("damaged", ["2026.lives", "0000000001.open"])
def test_a_part_that_cannot_be_kept(tmp_path, monkeypatch, damaged):
    """A damaged file is set aside, and the store goes on; what is left is finished later."""
    monkeypatch.setattr(module, "PART", 4)
    folder = tmp_path / "history"
    with closing(FactStore(folder, FakeClock())) as store:
        for number in range(4):
            assert store.add(fact_of(number, ended=BEGIN + number * SECOND))
        assert store.commit(progress_of(4))
        wait_until(lambda: store.step() or len(kept_names(folder)) == 1, "the part")
        path = folder / damaged
        if damaged.endswith(".open"):
            with closing(sqlite3.connect(path)) as database:
                database.execute("UPDATE answers SET relations = x'c1'")
                database.commit()
        else:
            path.write_bytes(b"no database")
        for number in range(4, 8):
            assert store.add(fact_of(number, ended=BEGIN + number * SECOND))
        assert store.commit(progress_of(8))
        wait_until(lambda: store.step() or store.counters["damaged"] == 1, "the damage")
        assert store.add(fact_of(8, ended=BEGIN + 8 * SECOND))
        assert store.commit(progress_of(9))
    assert (folder / f"{damaged}.damaged").exists()
    if damaged.endswith(".lives"):
        finish(folder / "0000000001.open")
        assert {one.answers for one in lives(folder)} == {9}


def kept_names(folder: Path) -> list[str]:
    """Return the names of the parts in the file of the year."""
    path = folder / "2026.lives"
    if not path.exists():
        return []
    with closing(open_reader(path, LIVES, final=False)) as database:
        return [name for [name] in database.execute("SELECT name FROM segments ORDER BY name")]


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


@pytest.mark.parametrize("first", [0, 1])
def test_a_user_who_fills_a_segment_or_a_day_leaves_room_for_others(tmp_path, monkeypatch, first):
    """Who makes many relations, by many programs, first or last, has half of the lives at most, beside others."""
    for one in (segments, module):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", 50)
    for bound in ("MOST_SPANS", "MOST_OF_DAY"):
        monkeypatch.setattr(lives_of_segments, bound, 20)
    folder = tmp_path / "history"
    floods = [Process(7, f"p{one}", container_name="evil", container_id="e", user_id=0) for one in range(40)]
    others = [Process(8, "curl", user_id=one) for one in range(1, 11)]
    with closing(FactStore(folder, FakeClock())) as store:
        number = 0
        for run in range(3):
            for process in (floods + others, others + floods)[first]:
                name = f"{process.name}.{run}.example" if process.name != "curl" else "shop.example"
                number += 1
                relations = ((name, 1, "192.0.2.1", 60),)
                assert store.add(fact_of(number, ended=BEGIN + number, process=process, relations=relations))
            assert store.commit(progress_of(number))
        store.add(fact_of(number + 1))
        assert store.commit(progress_of(number + 1))
        wait_until(lambda: store.step() or store.counters["finished"] == 3, "the segments")
        found = lives(folder)
        assert store.counters["lives_left_out"] == 150 - sum(one.answers for one in found) > 0
    by_user = Counter((one.asker.container, one.asker.user_id) for one in found)
    assert by_user == {("evil", 0): 10} | {("", user): 1 for user in range(1, 11)}
    assert {one.answers for one in found if one.asker.container != "evil"} == {3}


def test_the_lives_of_a_segment_are_merged_once(tmp_path):
    """A segment that is finished again, after an interruption, adds nothing."""
    life = RelationLife(20_000, ("a.example", 1, "192.0.2.1"), AskingProgram("curl", ""), 5, 6, 70, 2, 0)
    for name in ("0000000001", "0000000001", "0000000002"):
        merge_lives(tmp_path, name, [life])
    assert lives(tmp_path) == [life._replace(answers=4)]


@pytest.mark.parametrize(
    ("bound", "value", "expected"),
    [("MOST_OF_DAY", 4, [(20_000, 1), (20_000, 2), (20_001, 3)]), ("MOST_BYTES", 1, [(20_000, 1)])],
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
