"""What is too old, or too much, is removed; a clock that is wrong for a while removes nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from builders.facts import SECOND, fact_of, lives, progress_of, stage_of, stored
from dnstrail.history import segment as segments
from dnstrail.history.closing import finish
from dnstrail.history.fact import LOADED, Fact
from dnstrail_history.store import store as module
from dnstrail_history.store.retention import DAYS, STEADY
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

DAY = 86_400
YEAR = 366 * DAY
BEGIN = 2_000_000_000.0  # s, in 2033


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=BEGIN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make segments of few transactions."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", 10)
    monkeypatch.setattr(module, "MOST_TRANSACTIONS", 10)
    return 10


def add(store: FactStore, clock: FakeClock, number: int, start: str = "", age: float = 0.0) -> None:
    """Store a fact of now, or of a time before, in files that were written now."""
    fact = fact_of(number, ended=int((clock.wall() - age) * SECOND))
    if start:
        fact = Fact(fact.id._replace(start=start), None, "", fact.ended, fact.process, fact.flow, fact.values)
    assert store.add(fact)
    assert store.commit(progress_of(number))
    written(store._folder, clock)


def written(folder: Path, clock: FakeClock) -> None:
    """Let the files that the kernel has just written be of the time of the test, which is years ahead."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # the thread has just finished a segment
            if path.stat().st_mtime < BEGIN - 2 * YEAR:
                os.utime(path, (clock.wall(), clock.wall()))


def look(store: FactStore, clock: FakeClock, seconds: float = 60.0) -> None:
    """Let time pass, and let the store look for what is too old."""
    clock.advance(seconds)
    store.step()


def fill(store: FactStore, clock: FakeClock, numbers: Iterable[int], seconds: float, start: str = "") -> None:
    """Store facts, each some seconds after the one before, and let their full segments be finished."""
    for number in numbers:
        add(store, clock, number, start)
        clock.advance(seconds)
    unfinished = [*store._folder.glob("*.open")]
    wait_until(lambda: store.step() or len([*store._folder.glob("*.open")]) <= 1, f"{unfinished}")
    written(store._folder, clock)


def kept(folder: Path) -> list[int]:
    """Return the numbers of the facts that are stored."""
    return [fact.id.batch * 256 + fact.id.place for fact in stored(folder)]


def test_a_slow_host_keeps_no_fact_longer(folder, clock):
    """A segment ends after a day, also with few facts: none is kept for more than a day longer than `days`."""
    with closing(FactStore(folder, clock)) as store:
        for number in range(30):
            fill(store, clock, [number], DAY / 2)
        look(store, clock)
        oldest = min(fact.ended for fact in stored(folder))
        assert DAYS * DAY - DAY <= clock.wall() - oldest / SECOND <= (DAYS + 1) * DAY
        assert store.counters["removed"] > 3
        assert kept(folder)[-1] == 29


def test_the_open_segment_is_not_removed(folder, clock, small):
    """Long after its last fact the segment to which facts are added is there."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, clock, range(small + 1), 1)
        for _ in range(2):
            look(store, clock, 100 * DAY)
        look(store, clock, STEADY)
        assert kept(folder) == [small]


def test_a_segment_that_is_being_finished_is_not_removed(folder, clock, small, monkeypatch):
    """Too many bytes remove a segment before the thread works on it, or after."""
    release = threading.Event()
    monkeypatch.setattr("dnstrail_history.store.closer.finish", lambda path: release.wait(30) and finish(path))
    with closing(FactStore(folder, clock, most_bytes=1)) as store:
        for number in range(small + 1):
            add(store, clock, number)
        for _ in range(3):
            look(store, clock)
        assert [*folder.glob("0000000001.*")] == [folder / "0000000001.open"]
        release.set()
        wait_until(lambda: look(store, clock) or store.counters["removed"], "the removal")
    assert kept(folder) == [small]


def test_a_copied_file_lives_no_longer(folder, clock, small):
    """The age of a segment is that of its last fact, whenever its file was written."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, clock, range(2 * small + 1), 1)
        clock.monotonic_time += DAYS * DAY
        clock.wall_time += DAYS * DAY
        for path in folder.glob("*.segment"):
            os.utime(path, (clock.wall(), clock.wall()))
        store._retention._is_steady()
        look(store, clock)
        look(store, clock)
        assert kept(folder) == [2 * small]


def test_loaded_facts_are_kept_from_the_load_on(folder, clock, small):
    """The facts of an old capture are as old as their file."""
    with closing(FactStore(folder, clock)) as store:
        for number in range(small):
            add(store, clock, number, f"{LOADED}1", YEAR)
        fill(store, clock, range(small + 1), 1)
        look(store, clock)
        assert len(kept(folder)) == 2 * small + 1
        clock.advance(DAYS * DAY)
        look(store, clock)
        look(store, clock, STEADY)
        assert kept(folder) == [small]


@pytest.mark.parametrize("minutes", [1, 50])
def test_a_clock_that_is_ahead_for_a_while_removes_nothing(folder, clock, small, minutes):
    """A wall clock a year ahead removes no segment and no year within an hour; then it is believed."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, clock, range(2 * small + 1), 1)
        before, days = kept(folder), {life[:3] for life in lives(folder)}
        clock.wall_time += YEAR
        for _ in range(minutes):
            look(store, clock)
        fill(store, clock, range(2 * small + 1, 4 * small + 1), 0)
        clock.wall_time -= YEAR
        look(store, clock)
        assert kept(folder) == [*before, *range(2 * small + 1, 4 * small + 1)]
        assert days <= {life[:3] for life in lives(folder)}
        assert store.counters["removed"] == 0


def test_facts_of_a_time_ahead_live_no_longer(folder, clock, small):
    """Facts that were stored while the clock was a year ahead are removed some days after it was set right."""
    with closing(FactStore(folder, clock)) as store:
        clock.wall_time += YEAR
        fill(store, clock, range(small + 1), 1)
        clock.wall_time -= YEAR
        fill(store, clock, range(small + 1, 2 * small + 3), 1)
        for _ in range(int(DAYS) * 24 + 4):
            look(store, clock, STEADY)
        assert kept(folder) == [2 * small + 2]


def test_a_start_with_a_clock_that_is_ahead_removes_nothing(folder, clock, small):
    """A worker that starts while the clock is a year ahead waits for an hour."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, clock, range(2 * small + 1), 1)
    clock.wall_time += YEAR
    with closing(FactStore(folder, clock)) as store:
        look(store, clock)
        assert len(kept(folder)) == 2 * small + 1
        look(store, clock, STEADY)
        assert kept(folder) == [2 * small]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("start", ["", f"{LOADED}1"], ids=["live", "loaded"])
def test_a_clock_that_is_behind_for_hours_removes_nothing(folder, clock, small, start, restarts):
    """A host that runs in 1970 for two hours keeps its history, and so it does once its clock is right."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, clock, range(2 * small), 1, start)
        fill(store, clock, range(2 * small, 2 * small + 1), 1)
    before, wall = kept(folder), clock.wall_time
    clock.wall_time = 60.0
    with closing(FactStore(folder, clock)) as store:
        for _ in range(120):
            look(store, clock)
        if not restarts:
            clock.wall_time += wall
            for _ in range(120):
                look(store, clock)
    if restarts:
        clock.wall_time += wall
        with closing(FactStore(folder, clock)) as store:
            look(store, clock)
            look(store, clock, STEADY)
    assert kept(folder) == before


def test_a_run_of_a_minute_each_day_removes_what_is_old(folder, clock, small):
    """A worker whose files were written within a day before its start believes the clock at once."""
    for day in range(12):
        with closing(FactStore(folder, clock)) as store:
            fill(store, clock, range(day * small, (day + 1) * small), 1)
            look(store, clock)
        clock.advance(DAY - 100)
    assert min(kept(folder)) > 2 * small


def test_connections_count_for_the_age(folder, clock, small):
    """A segment whose last fact is a stage of a connection is as old as that."""
    with closing(FactStore(folder, clock)) as store:
        fill(store, clock, range(small - 1), 1)
        clock.advance(DAY / 2)
        assert store.add(stage_of(time=int(clock.wall() * SECOND)))
        fill(store, clock, range(small, small + 1), 1)
        clock.advance((DAYS - 0.25) * DAY)
        look(store, clock)
        look(store, clock, STEADY)
        assert store.counters["removed"] == 0
        look(store, clock, DAY / 2)
        look(store, clock, STEADY)
        assert store.counters["removed"] == 1
