"""What is stored and what comes live are shown without a gap, and each entry once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.facts import fact_of, progress_of, stage_of
from builders.log_entries import live, live_stage
from dnstrail.events import NET_CONNECTION
from dnstrail.history.log import handover as module
from dnstrail.history.log.handover import PATIENCE, Handover
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock


class Ends:
    """A store, a reading of it, and what the handover shows."""

    def __init__(self, folder: Path, selection: LogSelection | None = None) -> None:
        self.store = FactStore(folder, FakeClock())
        self.shown: list[str] = []
        self.warnings: list[str] = []
        self.log = HistoryLog(folder, self.warnings.append)
        selection = selection or LogSelection()
        self.handover = Handover(self.log, selection, lambda one: self.shown.append(one.name), self.warnings.append)

    def store_facts(self, *numbers: int) -> None:
        """Store facts."""
        for number in numbers:
            assert self.store.add(fact(number))
        assert self.store.commit(progress_of(max(numbers, default=0)))

    def close(self) -> None:
        """Close the store."""
        self.store.close()


def fact(number: int):
    forwarded = {"hop": 1, "asked_for": "s/9/9"} if number % 5 == 4 else {}
    return fact_of(number, name=f"n{number}.example", relations=(), **forwarded)


def names(*numbers: int) -> list[str]:
    return [f"n{number}.example" for number in numbers]


@settings(max_examples=settings().max_examples // 4)
@given(
    begin=st.integers(0, 8),
    subscribed=st.integers(0, 8),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20),
)
def test_every_entry_is_shown_once_and_in_order(tmp_path_factory, begin, subscribed, steps):
    """However far store and bus have come at each look, every entry after the reading is shown once, in order."""
    subscribed += begin
    with closing(Ends(tmp_path_factory.mktemp("ends") / "history")) as ends:
        ends.store_facts(*range(begin))
        assert len([*ends.log.read(LogSelection())]) == len([n for n in range(begin) if n % 5 != 4])
        at, come = begin, subscribed
        for to_store, to_send in [*steps, (40, 40), (0, 0)]:
            published = come + to_send
            ends.store_facts(*range(at, min(at + to_store, published)))
            at = min(at + to_store, published)
            for number in range(come, published):
                ends.handover.add(live(fact(number)), 0)
            come = published
            ends.handover.step(0)
        ends.store_facts(*range(at, come))
        ends.handover.step(0)
        assert ends.shown == names(*(number for number in range(begin, come) if number % 5 != 4))
        assert (ends.handover.is_over, ends.warnings) == (True, [])


def test_only_what_fits_is_shown(tmp_path):
    """The selection decides on both sides, and an entry that does not fit still ends the wait for the store."""
    with closing(Ends(tmp_path / "history", LogSelection(name="n[13].example"))) as ends:
        for number in (1, 2, 3):
            ends.handover.add(live(fact(number)), 0)
        ends.store_facts(0, 1)
        ends.handover.step(0)
        assert (ends.handover.is_over, ends.shown) == (True, names(1, 3))


def test_what_is_never_stored_does_not_end_the_wait_by_time(tmp_path):
    """An entry that the history excludes is shown as soon as a later one is stored, without a warning."""
    with closing(Ends(tmp_path / "history")) as ends:
        for number in (1, 2, 3):
            ends.handover.add(live(fact(number)), 0)
        ends.store_facts(2)
        ends.handover.step(0)
        assert (ends.handover.is_over, sorted(ends.shown), ends.warnings) == (True, names(1, 2, 3), [])


def test_a_history_that_is_away_is_named(tmp_path):
    """If the store does not receive what comes live, a warning says so after some seconds, and nothing is kept back."""
    with closing(Ends(tmp_path / "history")) as ends:
        ends.handover.add(live(fact(1)), 10)
        ends.handover.step(10 + PATIENCE)
        assert ends.shown == []
        ends.handover.step(10.1 + PATIENCE)
        ends.handover.add(live(fact(2)), 20)
        assert ends.shown == names(1, 2)
        assert len(ends.warnings) == 1


@pytest.mark.parametrize("stores", [False, True], ids=["live", "stored"])
def test_what_waits_is_bounded(tmp_path, monkeypatch, stores):
    """Beyond a bound of entries, live or stored, the command goes on with a warning."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    with closing(Ends(tmp_path / "history")) as ends:
        if stores:
            ends.store_facts(0, 1, 2, 3)
        else:
            for number in (0, 1, 2, 3):
                ends.handover.add(live(fact(number)), 0)
        ends.handover.step(0)
        assert (ends.handover.is_over, ends.shown, len(ends.warnings)) == (True, names(0, 1, 2, 3), 1)


@pytest.mark.parametrize("newest", [False, True], ids=["since", "last"])
@pytest.mark.parametrize("name", ["none.example", "n0.example"])
def test_what_the_reading_looked_at_is_no_backlog(tmp_path, monkeypatch, newest, name):
    """What was stored before and did not fit is not taken for a history that lags behind."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    selection = LogSelection(name=name)
    with closing(Ends(tmp_path / "history", selection)) as ends:
        ends.store_facts(*range(10))
        read = ends.log.newest(selection, 5) if newest else [*ends.log.read(selection)]
        assert len(read) == (name == "n0.example")
        ends.handover.step(0)
        assert (ends.handover.is_over, ends.shown, ends.warnings) == (False, [], [])
        ends.handover.add(live(fact(10)), 0)
        ends.store_facts(10)
        ends.handover.step(0)
        assert (ends.handover.is_over, ends.warnings) == (True, [])


def test_connections_are_handed_over_by_their_ends(tmp_path):
    """Of connections the ends are shown, stored or live, each once."""
    shown: list[str | None] = []
    stored = [stage_of(number, stage, name=f"n{number}.example") for number in (0, 1) for stage in ("opened", "end")]
    with closing(FactStore(tmp_path / "history", FakeClock())) as store:
        for one in stored:
            assert store.add(one)
        assert store.commit(progress_of(1))
        log = HistoryLog(tmp_path / "history", shown.append, NET_CONNECTION)
        handover = Handover(log, LogSelection(), lambda entry: shown.append(entry.arg("name")), shown.append)
        for one in (*stored[2:], stage_of(2, "opened"), stage_of(2, "end", name="n2.example")):
            handover.add(live_stage(one), 0)
        handover.step(0)
    assert (handover.is_over, shown) == (True, names(0, 1, 2))
