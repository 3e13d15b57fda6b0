"""The store holds each fact once, in the order of arrival, over restarts and segments.

Tests of dnstrail_history.store.store, dnstrail.history.segment, dnstrail.history.rows,
dnstrail_history.store.closer, dnstrail.history.closing, dnstrail.history.database,
dnstrail.history.segment_files, dnstrail.history.open_stages, dnstrail_history.store.published_ids.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from builders.facts import (
    BEGIN,
    RELATIONS,
    SECOND,
    fact_of,
    facts,
    progress_of,
    stage_of,
    stages,
    stored,
    stored_stages,
)
from dnstrail.errors import SettingsError
from dnstrail.history import segment as segments
from dnstrail.history.database import open_database, open_existing, open_reader
from dnstrail.history.fact import LOADED, Fact, StageFact
from dnstrail.history.rows import read_stages
from dnstrail.history.segment import SCHEMA
from dnstrail.history.subjects import subject_of
from dnstrail_history.store import store as module
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import MOST_WAITING, FactStore
from live.workers import FakeClock, wait_until

STATEMENTS = ("'); DROP TABLE transactions; --", '"; PRAGMA user_version = 9', "%s ? :name", "\0", "\U0001f4a9")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=BEGIN / SECOND)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def small(monkeypatch) -> int:
    """Make segments of few transactions."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", 10)
    monkeypatch.setattr(module, "MOST_TRANSACTIONS", 10)
    return 10


def fill(store: FactStore, numbers: range, **values) -> list[Fact]:
    """Store facts with some numbers."""
    added = [fact_of(number, **values) for number in numbers]
    assert [store.add(fact) for fact in added] == [True] * len(added)
    assert store.commit(progress_of(numbers.stop))
    return added


def finished(store: FactStore, count: int) -> None:
    """Wait until some segments are finished."""
    wait_until(lambda: store.step() or store.counters["finished"] >= count, "the full segments")


@given(runs=st.lists(st.lists(st.lists(facts() | stages(), max_size=8), max_size=3), max_size=3))
def test_the_store_holds_what_a_list_holds(runs):
    """Whatever facts arrive, in whatever runs and commits, the store holds the first one of each id, in their order."""
    expected: dict[str, Fact | StageFact] = {}
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "MOST_TRANSACTIONS", 5)
        patched.setattr(module, "MOST_TRANSACTIONS", 5)
        for number, run in enumerate(runs):
            with closing(FactStore(Path(name, "history"), FakeClock())) as store:
                for commit, batch in enumerate(run):
                    for fact in batch:
                        assert store.add(fact) is (fact.values.id not in expected)
                        expected.setdefault(fact.values.id, fact)
                    assert store.commit(progress_of(number * 10 + commit))
        folder = Path(name, "history")
        found = (stored(folder), stored_stages(folder)) if runs else ([], [])
    for kind, of_kind in zip((Fact, StageFact), found, strict=True):
        assert of_kind == [one for one in expected.values() if isinstance(one, kind)]


def test_no_text_becomes_a_statement(folder, clock):
    """Names, programs and addresses that look like statements are stored as they are."""
    with closing(FactStore(folder, clock)) as store:
        connections = [
            stage_of(number, text, name=text, bound=text, error=text, why=text)
            for number, text in enumerate(STATEMENTS)
        ]
        assert all(map(store.add, connections))
        added = [
            fact
            for number, text in enumerate(STATEMENTS)
            for fact in fill(
                store, range(number, number + 1), name=text, relations=((text, text, text, 1),), type=text, hop=text
            )
        ]
    assert stored(folder) == added
    assert stored_stages(folder) == connections


def test_a_full_segment_is_finished(folder, clock, small):
    """A full segment gets indexes and another name; facts go to the next one meanwhile."""
    with closing(FactStore(folder, clock)) as store:
        added = fill(store, range(3 * small + 1))
        finished(store, 3)
    assert [path.name for path in sorted(folder.iterdir()) if path.suffix not in {".keys", ".lives"}] == [
        "0000000001.segment",
        "0000000002.segment",
        "0000000003.segment",
        "0000000004.open",
        "lock",
    ]
    assert stored(folder) == added
    with closing(open_reader(folder / "0000000001.segment", SCHEMA, final=True)) as database:
        assert database.execute("SELECT * FROM extent").fetchone() == (BEGIN, BEGIN, small)
        plan = database.execute("EXPLAIN QUERY PLAN SELECT * FROM transactions WHERE answer = 1").fetchall()
        assert "transactions_by_answer" in str(plan)
        found = database.execute(
            "SELECT count(*) FROM names JOIN related USING (text) WHERE reversed = ?", ["elpmaxe.b"]
        )
        assert found.fetchone() == (1,)


def test_a_connection_may_end_in_a_later_segment(folder, clock, small):
    """Each stage is whole in its own segment, and the next segment begins with the stages of what is open."""
    opened = [stage_of(number) for number in range(small)]
    later = [
        stage_of(0, "end", time=BEGIN + SECOND, lasted=SECOND, why="closed", bytes_sent=7, bytes_received=9),
        stage_of(1, "result", time=BEGIN + SECOND, lasted=SECOND, connected=False, error="ECONNREFUSED"),
        stage_of(2, "result", time=BEGIN + SECOND, lasted=SECOND, connected=True),
        stage_of(2, "named", time=BEGIN + 2 * SECOND, lasted=2 * SECOND, name="b.example", bound="sni"),
        *(stage_of(number) for number in range(100, 100 + small)),
    ]
    with closing(FactStore(folder, clock)) as store:
        assert all(store.add(fact) for fact in opened + later)
        assert not store.add(later[0])
        assert store.commit(progress_of(1))
        finished(store, 2)
    assert stored_stages(folder) == opened + later
    carried = []
    for path in sorted(folder.glob("*.segment")):
        with closing(open_reader(path, SCHEMA, final=True)) as database:
            carried.append([*read_stages(database, "carried")])
            plan = database.execute(
                "EXPLAIN QUERY PLAN SELECT * FROM connections WHERE path IN "
                "(SELECT id FROM paths WHERE destination = x'c0000201') AND time - ifnull(lasted, 0) < 9"
            ).fetchall()
            assert "connections_by_path" in str(plan)
            assert database.execute("SELECT count FROM extent").fetchone() == (small,)
    assert carried == [[], opened]


def test_a_finished_segment_is_never_written_again(folder, clock, small):
    """A restart and further facts leave the bytes of a finished segment."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(small + 1))
        finished(store, 1)
    [path] = folder.glob("*.segment")
    before = path.read_bytes(), path.stat().st_mtime_ns
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(small + 1, 3 * small))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_segment_is_full_by_its_bytes(folder, clock, monkeypatch):
    """Beyond its bytes a segment is full, however few transactions it has."""
    monkeypatch.setattr(segments, "MOST_BYTES", 1 << 16)
    with closing(FactStore(folder, clock)) as store:
        for number in range(3):
            fill(store, range(number, number + 1), relations=((f"{number}" * (60 << 10), 1, "192.0.2.1", 1),))
        assert store.counters["stored"] == 3
    assert len(stored(folder)) == 3
    assert len({path.stem for path in folder.glob("0*")}) == 3


def test_a_segment_is_full_by_its_stages(folder, clock, monkeypatch):
    """Beyond its stages of connections a segment is full, however few facts it has."""
    monkeypatch.setattr(segments, "MOST_STAGES", 2)
    with closing(FactStore(folder, clock)) as store:
        for number in range(5):
            fill(store, range(number, number + 1))
            assert store.add(stage_of(number, "end", time=BEGIN + number))
            assert store.commit(progress_of(number))
        assert store.counters["stored"] == 10
    assert (len(stored(folder)), len(stored_stages(folder))) == (5, 5)
    assert len({path.stem for path in folder.glob("0*")}) == 3


@pytest.mark.parametrize("days", [-400, -2, -0.99, 2])
def test_stamps_of_another_day_end_no_segment(folder, clock, days):
    """A live fact counts for the span when it is written: any number of wrong stamps leaves a segment a day long."""
    other = BEGIN + int(days * 86_400) * SECOND
    with closing(FactStore(folder, clock)) as store:
        for commit in range(49):
            assert store.add(fact_of(2 * commit, ended=other))
            assert store.add(stage_of(commit, time=other))
            fill(store, range(2 * commit + 1, 2 * commit + 2), ended=int(clock.wall()) * SECOND)
            assert len({path.stem for path in folder.glob("0*")}) == 1 + (commit > 24 * 2)
            clock.advance(1800)
        assert store.counters["stored"] == 3 * 49
        fill(store, range(100, 101))
    assert len({path.stem for path in folder.glob("0*")}) == 2


def test_a_reopened_segment_is_as_long_as_its_facts(folder, clock):
    """Runs of a minute each half a day do not make a segment longer than a day."""
    for run in range(5):
        with closing(FactStore(folder, clock)) as store:
            fill(store, range(run, run + 1), ended=int(clock.wall()) * SECOND)
        clock.advance(43_200)
    assert len({path.stem for path in folder.glob("0*")}) == 2


def test_loaded_facts_count_by_their_own_times(folder, clock):
    """A load of some days makes a segment for each."""
    with closing(FactStore(folder, clock)) as store:
        for number in range(6):
            fact = fact_of(number, ended=BEGIN - (100 - number) * 43_200 * SECOND)
            assert store.add(replace(fact, id=fact.id._replace(start=f"{LOADED}0123456789abcdef")))
            assert store.commit(store.progress)
    assert len({path.stem for path in folder.glob("0*")}) == 2


def test_a_segment_that_was_not_finished_is_finished_after_a_restart(folder, clock, small, monkeypatch):
    """A worker that ended while a segment was full finishes it at its next start."""
    with monkeypatch.context() as patched:
        patched.setattr("dnstrail_history.store.closer.finish", lambda _: 0)
        with closing(FactStore(folder, clock)) as store:
            added = fill(store, range(small + 1))
            finished(store, 1)
    assert not [*folder.glob("*.segment")]
    with closing(FactStore(folder, clock)) as store:
        finished(store, 1)
    assert [path.name for path in folder.glob("*.segment")] == ["0000000001.segment"]
    assert stored(folder) == added


def test_a_restart_goes_on_with_the_open_segment(folder, clock):
    """The segment that was not full is the open one again, with the progress of the last commit."""
    with closing(FactStore(folder, clock)) as store:
        first = fill(store, range(3))
    with closing(FactStore(folder, clock)) as store:
        assert store.progress == progress_of(3)
        assert fill(store, range(3, 5)) == stored(folder)[3:]
    assert stored(folder)[:3] == first
    assert len([*folder.glob("0*.open")]) == 1


def test_progress_survives_a_segment_that_was_just_finished(folder, clock, small):
    """A worker that ended before the first fact of a new segment knows how far it was."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(small))
        fill(store, range(small, 2 * small))
        finished(store, 1)
    [path] = folder.glob("*.open")
    path.unlink()
    with closing(FactStore(folder, clock)) as store:
        assert store.progress == progress_of(small)
        assert not store.add(fact_of(0))


def test_live_facts_are_known_after_a_load(folder, clock, small, monkeypatch):
    """However many facts were loaded since, a restart knows the live ones before, and the progress."""
    monkeypatch.setattr(module, "_KNOWN", 2 * small)
    with closing(FactStore(folder, clock)) as store:
        [live] = fill(store, range(1))
        for number in range(1, 5 * small):
            fact = fact_of(number)
            assert store.add(replace(fact, id=fact.id._replace(start=f"{LOADED}0123456789abcdef")))
        assert store.commit(store.progress)
        finished(store, 4)
    with closing(FactStore(folder, clock)) as store:
        assert not store.add(live)
        assert store.progress == progress_of(1)


def test_a_known_fact_is_not_lost_while_too_many_wait(folder, clock, monkeypatch):
    """A fact that arrives again while no further one may wait is repeated; a lost one is stored when it comes again."""
    monkeypatch.setattr(module, "MOST_WAITING", 4)
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(1))
        assert store.add(fact_of(1))
        assert not any(store.add(fact_of(number)) for number in (0, 1, 2))
        assert (store.counters["repeated"], store.counters["unwritten"]) == (2, 1)
        assert store.commit(progress_of(1))
        assert store.add(fact_of(2))


@pytest.mark.parametrize("name", ["2026.lives", "0000000000.open"])
def test_a_folder_that_cannot_be_read_at_the_start_is_read_later(folder, clock, small, name):
    """Facts wait as long as what is stored cannot be read, and nothing is removed; then each is stored once."""
    with closing(FactStore(folder, clock)) as store:
        first = fill(store, range(3))
    folder.joinpath(name).mkdir()
    request = ask_to_forget(folder, subject_of("other.example"))
    with closing(FactStore(folder, clock, most_bytes=1)) as store:
        assert store.fault
        assert all(store.add(fact_of(number)) for number in range(5))
        clock.advance(2)
        assert not store.commit(progress_of(5))
        clock.advance(100)
        store.step()
        assert request.exists()
        folder.joinpath(name).rmdir()
        clock.advance(2)
        assert store.commit(progress_of(5))
        assert (store.fault, store.counters["repeated"], store.counters["stored"]) == ("", 3, 2)
        assert store.progress == progress_of(5)
    assert stored(folder) == [*first, fact_of(3), fact_of(4)]


def test_the_files_are_private(folder, clock, small):
    """No other user can read the folder or a file, whatever the umask."""
    before = os.umask(0)
    try:
        with closing(FactStore(folder, clock)) as store:
            fill(store, range(small + 1))
            finished(store, 1)
            modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {0o600}


def test_a_folder_has_one_worker(folder, clock):
    """A second worker on one folder is refused."""
    with closing(FactStore(folder, clock)), pytest.raises(SettingsError, match="in use"):
        FactStore(folder, clock)
    FactStore(folder, clock).close()


def test_the_bytes_are_bounded(folder, clock, small):
    """Beyond its bytes the store removes its oldest segments."""
    with closing(FactStore(folder, clock)) as store:
        connections = [stage_of(number) for number in range(small)]
        assert all(map(store.add, connections))
        added = fill(store, range(2 * small + 1))
        finished(store, 3)
        assert stored_stages(folder) == connections
        store._retention.most_bytes = 1
        clock.advance(60)
        store.step()
        assert store.counters["removed"] == 3
    assert (stored(folder), stored_stages(folder)) == (added[2 * small :], [])


def test_a_name_is_not_given_twice(folder, clock, small):
    """After all segments were removed, a new one has a name whose lives are not merged yet."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(small + 1))
        finished(store, 1)
    for path in folder.glob("0*"):
        path.unlink()
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(100, 101))
    assert [path.stem for path in folder.glob("0*.open")] == ["0000000002"]


def test_a_later_version_is_refused(folder, clock):
    """A folder that a later version of dnstrail made is left as it is."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(1))
    [path] = folder.glob("*.open")
    with closing(open_existing(path, SCHEMA)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA.version + 1}")
    with pytest.raises(SettingsError, match="later version"):
        FactStore(folder, clock)
    assert path.exists()


def test_a_file_is_there_once_it_has_its_tables(tmp_path):
    """A file that cannot be made has no name that a reader would open; the next attempt makes it."""
    path = tmp_path / "0000000001.open"
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            open_database(path, SCHEMA._replace(tables="CREATE"))
        assert not path.exists()
    open_database(path, SCHEMA).close()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_reader_does_not_stop_the_writer(folder, clock, small):
    """Facts are written while a reader is in the middle of a segment; the reader sees the facts of its begin."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(3))
        with closing(open_reader(folder / "0000000001.open", SCHEMA, final=False)) as database:
            rows: Iterator = database.execute("SELECT id FROM transactions")
            first = next(rows)
            fill(store, range(3, 3 * small))
            assert [first, *rows] == [(1,), (2,), (3,)]
    assert len(stored(folder)) == 3 * small


def test_facts_that_wait_are_bounded(folder, clock):
    """While nothing can be written, facts beyond a bound are lost and counted, and do not count as stored."""
    with closing(FactStore(folder, clock)) as store:
        most = MOST_WAITING // (1 + len(RELATIONS))
        kept = [fact_of(number) for number in range(most + 5)]
        assert [store.add(fact) for fact in kept].count(True) == most
        assert store.counters["unwritten"] == 5
        assert store.commit(progress_of(1))
        assert store.add(kept[-1])
        assert store.commit(progress_of(2))
    assert stored(folder) == [*kept[:most], kept[-1]]


def test_ids_are_noted_while_a_segment_is_finished(folder, clock, small, monkeypatch):
    """A segment that is renamed while the ids of a start are noted is read by its final name."""
    with closing(FactStore(folder, clock)) as store:
        [first] = fill(store, range(1))
        store._close_segment()

        def renamed(path: Path, *args: object, **values: bool) -> sqlite3.Connection:
            if path.suffix == ".open":
                path.rename(path.with_suffix(".segment"))
            return open_reader(path, *args, **values)

        monkeypatch.setattr(module, "open_reader", renamed)
        store._known = module.KnownIds()
        store.note_ids_of("s")
        assert not store.add(first)


def test_ids_of_a_damaged_segment_are_left_out(folder, clock, small):
    """A segment that is damaged is moved aside when the ids of a start are noted; the others are read."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(small + 1))
        finished(store, 1)
        with closing(open_existing(folder / "0000000001.segment", SCHEMA)) as database:
            database.execute("UPDATE transactions SET place = -1")
        store.note_ids_of("s")
        assert store.counters["damaged"] == 1
        assert not store.add(fact_of(small))
        assert fill(store, range(100, 101))
