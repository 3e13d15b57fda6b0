"""A damaged file is moved aside and named; everything else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from builders.facts import BEGIN, SECOND, fact_of, lives, progress_of, stage_of, stored, stored_stages
from dnstrail.history import segment as segments
from dnstrail.history.database import open_existing
from dnstrail.history.segment import SCHEMA
from dnstrail.history.subjects import subject_of
from dnstrail_history.store import store as module
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.processes import run_dir, unprivileged
from live.workers import FakeClock, wait_until

SMALL = 10
# Changes of contents that SQLite does not notice.
CHANGES = (
    "UPDATE answers SET relations = x'c1'",
    "UPDATE answers SET relations = x'91ce00ffffff'",
    "UPDATE endings SET flags = 'x'",
    "UPDATE transactions SET ttls = x'c1'",
    "UPDATE transactions SET ttls = x'90'",
    "UPDATE transactions SET ttls = x'92cf7fffffffffffffffcf7fffffffffffffff'",
    "UPDATE transactions SET ended = 'x'",
    "UPDATE transactions SET ended = 9223372036854775807",
    "UPDATE transactions SET place = 1 << 62",
    "UPDATE programs SET name = CAST(name AS BLOB)",
    "UPDATE positions SET position = x'c1'",
    "UPDATE coverage SET since = 'x'",
    "UPDATE texts SET text = CAST(x'ff' AS TEXT) WHERE id = 1",
    "UPDATE texts SET text = (SELECT text FROM texts WHERE id = 2) WHERE id = 1",
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=BEGIN / SECOND)


@pytest.fixture
def folder(tmp_path: Path, clock, monkeypatch) -> Path:
    """Return a folder with two finished segments and an open one."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", SMALL)
    monkeypatch.setattr(module, "MOST_TRANSACTIONS", SMALL)
    folder = tmp_path / "history"
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(2 * SMALL + 3))
        wait_until(lambda: store.step() or store.counters["finished"] == 2, "the full segments")
    return folder


def fill(store: FactStore, numbers: range) -> None:
    """Store transactions and stages of connections in turn, with some numbers."""
    for number in numbers:
        store.add(stage_of(number) if number % 2 else fact_of(number))
    assert store.commit(progress_of(numbers.stop))


def scribble(path: Path, at: int) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 4000)


@pytest.mark.parametrize("name", ["0000000001.segment", "0000000003.open"])
def test_a_damaged_segment_is_moved_aside(folder, clock, name):
    """A segment that is no database is moved aside, counted and named; the others answer, and facts are stored."""
    scribble(folder / name, 0)
    with capture_logs() as logs, closing(FactStore(folder, clock)) as store:
        assert store.counters["damaged"] == 1
        fill(store, range(100, 105))
    assert [line["file"] for line in logs if line["event"] == "history_damaged"] == [str(folder / name)]
    assert (folder / f"{name}.damaged").exists()
    lost = SMALL if name.endswith("segment") else 3
    assert len(stored(folder)) + len(stored_stages(folder)) == 2 * SMALL + 3 - lost + 5
    FactStore(folder, clock).close()


def test_damage_inside_the_open_segment_is_found_at_the_start(folder, clock):
    """Pages of the open segment that are damaged are found before anything is added to it."""
    path = folder / "0000000003.open"
    scribble(path, 4096 + 8)
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(100, 101))
        assert store.counters["damaged"] == 1
    assert [path.name for path in folder.glob("*.open")] == ["0000000004.open"]


def test_damage_while_facts_are_stored_loses_none_that_wait(folder, clock):
    """A segment that is damaged under the writer is moved aside, and the facts at hand go to a new one."""
    path = folder / "0000000003.open"
    with closing(FactStore(folder, clock)) as store:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        with closing(open_existing(path, SCHEMA)) as database:  # another writer: the pages are read again
            database.execute(f"PRAGMA user_version = {SCHEMA.version}")
        for number in range(100, 105):
            store.add(fact_of(number))
            store.add(stage_of(number))
        wait_until(lambda: store.commit(progress_of(9)), "a new segment")
        assert store.counters["damaged"] == 1
    for facts in (stored(folder), stored_stages(folder)):
        assert [fact.id.place for fact in facts[SMALL:]] == [*range(100, 105)]


def test_damaged_lives_are_moved_aside(folder, clock):
    """Lives that are damaged are moved aside, and those of later segments are kept anew."""
    [path] = folder.glob("*.lives")
    scribble(path, 0)
    with closing(FactStore(folder, clock)) as store:
        fill(store, range(100, 110))
        wait_until(lambda: store.step() or store.counters["finished"], "the full segment")
        assert store.counters["damaged"] == 1
    assert (folder / "2026.lives.damaged").exists()
    assert {life.answers for life in lives(folder)} == {6}  # 20, 22, and the even ones from 100 to 106


def test_a_damaged_segment_that_cannot_be_finished_is_moved_aside(folder, clock, monkeypatch):
    """A full segment that turns out to be damaged stops neither the worker nor the next segments."""
    with monkeypatch.context() as patched:
        patched.setattr("dnstrail_history.store.closer.finish", lambda _: 0)
        with closing(FactStore(folder, clock)) as store:
            fill(store, range(100, 100 + 2 * SMALL))
    scribble(folder / "0000000003.open", 2 * 4096)
    with closing(FactStore(folder, clock)) as store:
        wait_until(lambda: store.step() or store.counters["damaged"], "the damage")
        wait_until(lambda: store.step() or store.counters["finished"], "the next segment")
    assert (folder / "0000000003.open.damaged").exists()


def change(path: Path, statement: str) -> None:
    """Change contents of a segment behind the back of its writer."""
    with closing(open_existing(path, SCHEMA)) as database:
        database.execute(statement)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("statement", CHANGES)
def test_damaged_contents_end_no_worker(folder, clock, statement):
    """A segment whose contents no writer stores is moved aside, at the start or once it is full; facts are stored."""
    change(folder / "0000000003.open", statement)
    with closing(FactStore(folder, clock)) as store:
        lost = 0 if store.counters["damaged"] else SMALL - 3
        for number in range(100, 100 + 2 * SMALL):
            store.add(fact_of(number, name=f"n{number}.example"))
        wait_until(lambda: store.commit(progress_of(9)), "a new segment")
        wait_until(lambda: store.step() or store.counters["finished"], "a full segment after it")
        assert store.counters["damaged"] == 1
    assert [*folder.glob("0000000003*")] == [folder / "0000000003.open.damaged"]
    assert (folder / "2026.lives").exists()
    assert len([fact for fact in stored(folder) if fact.id.place >= 100]) >= 2 * SMALL - lost
    FactStore(folder, clock).close()


@pytest.mark.parametrize(
    "statement", ["INSERT INTO positions VALUES ('s', x'c1')", "UPDATE connections SET place = -1"]
)
def test_damaged_contents_of_a_finished_segment_end_no_worker(folder, clock, statement):
    """A finished segment whose ids or progress cannot be read at the start is moved aside."""
    for path in folder.glob("0000000003*"):
        path.unlink()
    change(folder / "0000000002.segment", statement)
    with closing(FactStore(folder, clock)) as store:
        assert store.counters["damaged"] == 1
        assert store.add(fact_of(SMALL))
        assert not store.add(fact_of(0))


def test_damaged_contents_are_forgotten(folder, clock):
    """A segment whose facts cannot be read is moved aside, and removed when the request is fulfilled."""
    change(folder / "0000000001.segment", "UPDATE answers SET relations = x'c1'")
    with closing(FactStore(folder, clock)) as store:
        request = ask_to_forget(folder, subject_of("a.example"))
        wait_until(lambda: store.step() or clock.advance(1) or not request.exists(), "the end of the request")
        assert store.counters["damaged"] == 1
    assert not [*folder.glob("0000000001*")]


@pytest.mark.parametrize("command", [["log"], ["seen", "192.0.2.1"], ["new", "--since", "2020-01-01"]])
def test_a_segment_of_somebody_else_is_named(command):
    """A reader that may not open one of the files names it, and answers from the others."""
    with run_dir() as folder:
        for part, name in (("1", "theirs.test"), ("2", "ours.test")):
            with closing(FactStore(folder / part, FakeClock())) as store:
                store.add(fact_of(1, relations=((name, 1, "192.0.2.1", 60),)))
                assert store.commit(progress_of(1))
        (segment,), history = (folder / "2").glob("*.open"), folder / "1"
        segment.rename(history / "0000000002.open").chmod(0o666)
        history.chmod(0o777)  # a reader of an open segment makes a file beside it
        (theirs,) = history.glob("*1.open")
        theirs.chmod(0)
        rights = unprivileged() if os.geteuid() == 0 else []
        reading = (*rights, sys.executable, "-m", "dnstrail_cli", *command, "--folder", str(history))
        done = subprocess.run(reading, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count(str(theirs))) == (0, 1), done.stderr
        assert "ours.test" in done.stdout
        assert "theirs.test" not in done.stdout
