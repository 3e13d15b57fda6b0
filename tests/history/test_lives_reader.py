"""The lives of a key in a folder: each once, up and down, from years and segments, while the worker writes."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import defaultdict
from contextlib import closing
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from builders.facts import BEGIN, CURL, SECOND, fact_of, locked, progress_of
from dnstrail.captured import Process
from dnstrail.dns.rdata import CNAME, PTR, A
from dnstrail.history import lives_reader as module
from dnstrail.history import segment as segments
from dnstrail.history.closing import finish
from dnstrail.history.database import LOCKED, open_reader
from dnstrail.history.fact import Fact
from dnstrail.history.lives import AskingProgram, RelationLife, lives_of, merge_lives
from dnstrail.history.lives_reader import LivesReader
from dnstrail.history.segment import SCHEMA
from dnstrail_history.store import store as stores
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

DAY = 86_400
EPOCH = date(1970, 1, 1).toordinal()
NOBODY = AskingProgram("", "")
CHAIN = (("www.example", CNAME, "cdn.example"), ("cdn.example", A, "192.0.2.1"), ("192.0.2.1", PTR, "host.example"))


def keep(folder: Path, facts: list[Fact]) -> None:
    """Store facts, each by a commit of its own."""
    with closing(FactStore(folder, FakeClock(wall=BEGIN / SECOND))) as store:
        for number, fact in enumerate(facts):
            assert store.add(fact)
            assert store.commit(progress_of(number))


def life(*relation: object, day: int = 20_000, asker: AskingProgram = NOBODY) -> RelationLife:
    """Return the life of a relation on a day."""
    return RelationLife(day, relation, asker, day * DAY, day * DAY + 9, day * DAY + 70, 2, 0)


def seen(folder: Path, key: str, since: float = 0, warned: list[str] | None = None) -> list[RelationLife]:
    """Return the lives of a key, all of them."""
    with LivesReader(folder, [].append if warned is None else warned.append) as reader:
        found = reader.of(key, since)
    assert found.is_whole
    return found.lives


@pytest.mark.parametrize("is_merged", [True, False])
def test_lives_are_found_since_their_own_time(tmp_path: Path, is_merged: bool) -> None:
    """The time at which the log has the last answer selects its relation, to the last digit, and so does any before."""
    last = 20_000 * DAY + 9
    if is_merged:
        merge_lives(tmp_path, "0000000008", [life("a.example", A, "192.0.2.1")])
    else:
        relations = (("a.example", A, "192.0.2.1", 60),)
        keep(tmp_path, [fact_of(0, ended=last * SECOND + 700_000_000, relations=relations)])
    found = {since: len(seen(tmp_path, "a.example", since)) for since in (-1e300, last + 0.7, last + 1, 1e300)}
    assert [*found.values()] == [1, 1, 0, 0]


@pytest.mark.parametrize("day", ["2026-03-31", "2026-04-01", "2026-04-02", "2026-04-04", "2026-04-05"])
def test_the_last_week_of_a_month_is_found(tmp_path: Path, day: str) -> None:
    """A month has its last week to its end, which is up to six days later: what was seen since one of them is found."""
    first, last, today = (date.fromisoformat(text).toordinal() - EPOCH for text in ("2026-03-02", "2026-04-04", day))
    for number in range(first, last + 1):
        merge_lives(tmp_path, f"{number:010d}", [life("a.example", A, "192.0.2.1", day=number)])
    for number in (last + 60, last + 250):  # the days become weeks, and then months
        merge_lives(tmp_path, f"{number:010d}", [life("b.example", A, "192.0.2.1", day=number)])
    assert bool(seen(tmp_path, "a.example", today * DAY)) == (today <= last)


def totals(lives: list[RelationLife]) -> dict:
    """Return first, last and answers of each relation and program."""
    found = defaultdict(list)
    for one in lives:
        found[one.relation, one.asker].append(one)
    return {
        key: (min(one.first for one in some), max(one.last for one in some), sum(one.answers for one in some))
        for key, some in found.items()
    }


ANSWERS = st.lists(
    st.tuples(
        st.integers(0, 2 * DAY),
        st.sampled_from([CURL, replace(CURL, user_id=1000), Process(9, "ping"), None]),
        st.sampled_from(["a.example", "b.example"]),
        st.sets(st.sampled_from(["192.0.2.1", "192.0.2.2"]), max_size=2),
    ),
    max_size=12,
)


@settings(max_examples=20, deadline=None)
@given(answers=ANSWERS, since=st.integers(0, 3 * DAY), part=st.integers(1, 4))
def test_the_lives_are_those_of_all_answers(answers, since, part):
    """First, last and number of answers of each relation are those of a plain computation, over all segments."""
    facts, expected, passed = [], defaultdict(list), BEGIN // SECOND
    for number, (waited, process, name, targets) in enumerate(answers):
        passed += waited
        relations = tuple((name, A, target, 30) for target in sorted(targets))
        facts.append(fact_of(number, ended=passed * SECOND, process=process, relations=relations, name=name))
        asker = NOBODY
        if process is not None:
            asker = AskingProgram(process.path or process.name, process.container_name, process.user_id)
        for relation in relations:
            expected[relation[:3], asker].append(passed)
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "MOST_TRANSACTIONS", 4)
        patched.setattr(stores, "MOST_TRANSACTIONS", 4)
        patched.setattr(stores, "PART", part)
        folder = Path(name, "history")
        keep(folder, facts)
        for key in ("a.example", "192.0.2.1"):
            stated = {one: (min(at), max(at), len(at)) for one, at in expected.items() if key in one[0]}
            assert totals(seen(folder, key)) == stated
            last = {one for one, at in stated.items() if at[1] >= BEGIN // SECOND + since}
            assert totals(seen(folder, key, BEGIN // SECOND + since)).keys() == last


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("192.0.2.1", CHAIN),
        ("www.example", CHAIN[:2]),
        ("cdn.example", CHAIN[:2]),
        ("host.example", CHAIN[2:]),
        ("other.example", ()),
    ],
)
def test_relations_lead_up_and_down(tmp_path, key, expected):
    """An address leads up to the alias that was asked, and a name down to the addresses behind its aliases."""
    merge_lives(tmp_path, "0000000001", [life(*relation) for relation in CHAIN[:2]])
    merge_lives(tmp_path, "0000000002", [life(*CHAIN[2], day=19_000)])
    assert {one.relation for one in seen(tmp_path, key)} == {*expected}


def test_a_chain_leads_over_years_and_open_segments(tmp_path):
    """The alias is in the file of a year, and its address in a segment to which facts are added."""
    folder = tmp_path / "history"
    keep(folder, [fact_of(1, relations=((*CHAIN[1], 60),), name="cdn.example")])
    merge_lives(folder, "0000000007", [life(*CHAIN[0])])
    for key in ("www.example", "192.0.2.1"):
        assert {one.relation for one in seen(folder, key)} == {*CHAIN[:2]}


def test_a_segment_that_is_merged_counts_once(tmp_path):
    """Between the merge of its lives and its new name, a segment adds nothing; afterwards its file is gone."""
    folder = tmp_path / "history"
    keep(folder, [fact_of(1)])
    [path] = folder.glob("*.open")
    before = totals(seen(folder, "b.example"))
    with closing(open_reader(path, SCHEMA, final=False)) as segment:
        merge_lives(folder, path.stem, lives_of(segment))
    assert totals(seen(folder, "b.example")) == before != {}
    finish(path)
    assert totals(seen(folder, "b.example")) == before


def test_a_reader_does_not_stop_the_writer(tmp_path):
    """Facts are stored while a reader has its files open, and the next reader finds them."""
    folder = tmp_path / "history"
    with closing(FactStore(folder, FakeClock(wall=BEGIN / SECOND))) as store:
        store.add(fact_of(1))
        assert store.commit(progress_of(1))
        with LivesReader(folder, pytest.fail) as reader:
            assert sum(one.answers for one in reader.of("b.example", 0).lives) == 2
            store.add(fact_of(2))
            assert store.commit(progress_of(2))
        assert store.counters["write_failures"] == 0
        assert sum(one.answers for one in seen(folder, "b.example")) == 4


def test_damaged_files_are_named_and_the_others_answer(tmp_path):
    """A year that is no database, a segment with a wrong value, and one set aside are named; the other year answers."""
    folder = tmp_path / "history"
    keep(folder, [fact_of(1)])
    [segment] = folder.glob("*.open")
    with closing(sqlite3.connect(segment)) as database, database:
        database.execute("UPDATE answers SET relations = x'c1'")
    (folder / "2025.lives").write_bytes(b"no database" * 1000)
    (folder / "0000000000.segment.damaged").write_bytes(b"")
    merge_lives(folder, "0000000009", [life("a.example", A, "192.0.2.9", day=20_700)])
    warned: list[str] = []
    assert [one.relation[2] for one in seen(folder, "a.example", 0, warned)] == ["192.0.2.9"]
    named = ["0000000000.segment.damaged", "2025.lives", segment.name]
    assert [name for name, text in zip(named, warned, strict=True) if name in text] == named


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE lives SET count = x'c1'",
        "UPDATE lives SET first = 'soon'",
        "UPDATE lives SET first = 1e300",
        "UPDATE lives SET lasted = 9223372036854775807",
        "UPDATE texts SET text = x'c1' WHERE text LIKE '192%'",
        "DELETE FROM askers",
    ],
)
def test_a_year_with_a_wrong_value_is_named_and_the_other_answers(tmp_path, damage):
    """Bytes, a text or a number that no writer stores, and a missing asker, leave out the year alone."""
    for number, day in enumerate((20_000, 20_700)):
        merge_lives(tmp_path, f"{number}", [life("a.example", A, f"192.0.2.{number}", day=day)])
    with closing(sqlite3.connect(tmp_path / "2024.lives")) as database, database:
        database.execute(damage)
    warned: list[str] = []
    assert [one.relation[2] for one in seen(tmp_path, "a.example", 0, warned)] == ["192.0.2.1"]
    assert [Path(text.partition(":")[0]).name for text in warned] == ["2024.lives"] * len(warned) != []


def test_aliases_in_a_circle_count_once(tmp_path):
    """A relation that leads down and up from a key is found once."""
    circle = [life("a.example", CNAME, "b.example"), life("b.example", CNAME, "a.example")]
    merge_lives(tmp_path, "0000000001", circle)
    assert sorted(seen(tmp_path, "a.example")) == circle


def test_a_locked_segment_is_named_and_the_others_answer(tmp_path, monkeypatch):
    """`seen` leaves out a segment that the worker does not finish in time."""
    monkeypatch.setattr(module, "open_reader", partial(open_reader, patience=0.01))
    keep(tmp_path / "history", [fact_of()])
    merge_lives(tmp_path / "history", "0000000009", [life("a.example", A, "192.0.2.9")])
    [path] = (tmp_path / "history").glob("*.open")
    warned: list[str] = []
    with locked(path):
        assert [one.relation[2] for one in seen(tmp_path / "history", "a.example", warned=warned)] == ["192.0.2.9"]
        with LivesReader(tmp_path / "history", warned.append) as reader:
            assert {one.owner for one in reader.firsts()} == {"a.example"}
    with LivesReader(tmp_path / "history", warned.append) as reader, locked(path):
        assert reader.of("b.example", 0).lives == []
    assert {*warned} == {f"{path}: {LOCKED}"}


def test_what_is_no_file_is_left_out(tmp_path):
    """A pipe and a link in the place of files are named and not opened: the reader of a pipe would wait."""
    os.mkfifo(tmp_path / "2025.lives")
    (tmp_path / "0000000003.open").symlink_to("/dev/zero")
    merge_lives(tmp_path, "0000000009", [life("a.example", A, "192.0.2.9", day=20_700)])
    warned: list[str] = []
    assert len(seen(tmp_path, "a.example", 0, warned)) == 1
    assert [Path(text.partition(":")[0]).name for text in warned] == ["0000000003.open", "2025.lives"]


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the files of another user as root")
def test_root_reads_what_a_killed_worker_left(tmp_path):
    """Facts in the log of an open segment are found, and all files belong to the worker's user afterwards."""
    folder, killed = tmp_path / "history", tmp_path / "killed"
    killed.mkdir(mode=0o700)
    with closing(FactStore(folder, FakeClock(wall=BEGIN / SECOND))) as store:
        store.add(fact_of(1))
        assert store.commit(progress_of(1))
        for path in folder.glob("*.open*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, killed / path.name)
    for path in (killed, *killed.iterdir()):
        os.chown(path, 1, 1)
    assert [path.name for path in sorted(killed.iterdir())] == ["0000000001.open", "0000000001.open-wal"]
    assert sum(one.answers for one in seen(killed, "b.example")) == 2
    assert {path.stat().st_uid for path in killed.iterdir()} == {1}


@pytest.mark.parametrize(("bound", "value", "kept"), [("MOST_LIVES", 5, 5), ("MOST_KEYS", 3, 9)])
def test_a_key_with_too_many_relations_is_cut(tmp_path, monkeypatch, bound, value, kept):
    """Beyond a bound further lives are left out, and the reader states it."""
    monkeypatch.setattr(module, bound, value)
    merge_lives(tmp_path, "0000000001", [life(f"n{number}.example", A, "192.0.2.1") for number in range(9)])
    with LivesReader(tmp_path, pytest.fail) as reader:
        found = reader.of("192.0.2.1", 0)
        assert not found.is_whole
        assert len(found.lives) == kept
        assert reader.of("n1.example", 0).is_whole


def test_texts_of_strangers_are_no_statements(tmp_path):
    """A key is compared as it is, whatever it contains."""
    hostile = "'); DROP TABLE lives; --\0\x1b"
    merge_lives(tmp_path, "0000000001", [life(hostile, A, "192.0.2.1"), life("%", A, "192.0.2.2")])
    assert [one.relation[2] for one in seen(tmp_path, hostile)] == ["192.0.2.1"]
    assert [one.relation[2] for one in seen(tmp_path, "%")] == ["192.0.2.2"]
