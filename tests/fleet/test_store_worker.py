"""The store acknowledges what is written or refused, goes on after each fault, and states it once.

Tests of dnstrail_fleet.store.worker, dnstrail_fleet.log.contract.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from builders.fleet import NOON, FakeLog, entry, received, row, stored_rows
from dnstrail_fleet.metrics import store_metrics
from dnstrail_fleet.row import DAY, encode_entry
from dnstrail_fleet.store import store as store_module
from dnstrail_fleet.store.store import FleetStore
from dnstrail_fleet.store.worker import StoreWorker
from live.workers import FakeClock


@pytest.fixture
def storing(tmp_path: Path) -> Iterator[tuple[StoreWorker, FakeLog]]:
    """Return a store over a log in memory."""
    log = FakeLog()
    with closing(FleetStore(tmp_path)) as store:
        yield StoreWorker(log, store, FakeClock(NOON)), log


def test_hostile_entries_are_counted_and_acknowledged(storing: tuple[StoreWorker, FakeLog], tmp_path: Path) -> None:
    """What is refused is counted by user and reason, acknowledged, and stops nobody."""
    worker, log = storing
    for host, body in [
        ("evil", b"\xc1"),
        ("evil", encode_entry(entry("web1", row()))),
        ("evil", encode_entry(entry("evil", row(), sent=16_725_225_600))),
        ("web1", encode_entry(entry("web1", row()))),
    ]:
        log.put(host, body)
    with capture_logs() as logs:
        worker.step()
    assert len(log.done) == 4
    assert [one[5] for one in stored_rows(tmp_path)] == ["web1"]
    with closing(sqlite3.connect(worker.store.path)) as database:
        found = database.execute("SELECT name, reason, count FROM refused JOIN hosts ON id = host").fetchall()
    assert found == [("evil", "clock", 1), ("evil", "form", 1), ("evil", "host", 1)]
    assert [line["event"] for line in logs] == ["entry_refused"]
    assert worker.counters["refused"] == 3


def test_an_entry_of_a_later_version_waits(storing: tuple[StoreWorker, FakeLog]) -> None:
    """An entry of a later version is named, not acknowledged, and counted once."""
    worker, log = storing
    log.put("web1", msgspec.msgpack.encode({"v": 3}))
    log.put("web1", encode_entry(entry("web1", row())))
    with capture_logs() as logs:
        worker.step()
    assert log.done == {log.entries[1].id}
    assert [(line["event"], line["host"]) for line in logs] == [("entry_of_later_version", "web1")]
    log.entries.append(log.entries[0]._replace(is_again=True))
    worker.step()
    assert worker.counters["later"] == 1


def test_each_fault_has_one_line(storing: tuple[StoreWorker, FakeLog], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is away and a disk that is full are stated once each; nothing is acknowledged meanwhile."""
    worker, log = storing
    with capture_logs() as logs:
        log.fault = "away"
        worker.step()
        worker.step()
        log.fault = ""
        log.put("web1", encode_entry(entry("web1", row())))
        with monkeypatch.context() as patch:
            patch.setattr(worker.store, "write", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("full")))
            worker.step()
        assert (worker.fault, log.done, worker.pause) == ("disk", set(), 1.0)
        worker.step()
    assert [(line["event"], line.get("reason")) for line in logs] == [
        ("fleet_not_stored", "away"),
        ("fleet_not_stored", "disk"),
        ("fleet_recovered", None),
    ]
    assert worker.fault == ""


def test_what_a_store_could_not_write_is_written_next(
    storing: tuple[StoreWorker, FakeLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that a failure held up are not read again, and one of a later version among them counts once."""
    worker, log = storing
    log.put("web1", encode_entry(entry("web1", row())))
    log.put("web1", msgspec.msgpack.encode({"v": 3}))
    with monkeypatch.context() as patch:
        patch.setattr(worker.store, "write", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("full")))
        for _ in range(2):
            worker.step()
    worker.step()
    assert log.done == {log.entries[0].id}
    assert worker.counters["later"] == 1


def test_a_store_waits_once_few_entries_come(storing: tuple[StoreWorker, FakeLog]) -> None:
    """While many entries wait, the next ones are read at once; a few more are left to come together."""
    worker, log = storing
    pauses = []
    for _ in range(65):
        log.put("web1", encode_entry(entry("web1", row())))
    for _ in range(2):
        worker.step()
        pauses.append(worker.pause > 0)
    assert (pauses, len(log.done)) == ([False, True], 65)


def test_old_rows_are_removed_between_writes(
    storing: tuple[StoreWorker, FakeLog], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A turn removes a few rows and stores what came, until all old rows are gone."""
    monkeypatch.setattr(store_module, "_STEP", 2)
    worker, log = storing
    worker.store.write([received(entry("web1", *(row(f"old{number}.example") for number in range(6))))], {}, NOON)
    at, left = NOON + 99 * DAY, []
    log.at = at * 1000
    later = StoreWorker(log, worker.store, FakeClock(at))
    for number in range(40):
        log.put("web1", encode_entry(entry("web1", row(f"new{number}.example", at=at), sent=at)))
        later.step()
        names = [one[1] for one in stored_rows(tmp_path)]
        assert names.count(f"new{number}.example") == 1
        left.append(sum(name.startswith("old") for name in names))
    assert [*dict.fromkeys(left)] == [6, 4, 2, 0]


def test_a_clock_far_ahead_removes_no_row(storing: tuple[StoreWorker, FakeLog], tmp_path: Path) -> None:
    """Rows are old by the newest entry, also where the clock of the store is wrong: none is removed or left out."""
    worker, log = storing
    worker.store.write([received(entry("web1", row("old.example", at=NOON - 80 * DAY), row()))], {}, NOON)
    wrong = StoreWorker(log, worker.store, FakeClock(NOON + 100 * DAY))
    for _ in range(2):
        for _ in range(9):
            wrong.step()
        log.put("web1", encode_entry(entry("web1", row("new.example"))))
    assert sorted(str(one[1]) for one in stored_rows(tmp_path)) == ["new.example", "old.example", "shop.example"]
    assert worker.store.counters["too_old"] == 0


def test_an_entry_from_the_future_removes_no_row(storing: tuple[StoreWorker, FakeLog], tmp_path: Path) -> None:
    """A host may name any time of the engine: rows are not older than they are by the clock of the store."""
    worker, log = storing
    worker.store.write([received(entry("web1", row()))], {}, NOON)
    log.at = (NOON + 100 * DAY) * 1000
    log.put("evil", encode_entry(entry("evil", sent=NOON + 100 * DAY)))
    for _ in range(9):
        worker.step()
    assert [one[1] for one in stored_rows(tmp_path)] == ["shop.example"]


def test_metrics_state_what_waits(storing: tuple[StoreWorker, FakeLog]) -> None:
    """The metrics hold the counters and the lag of the engine."""
    worker, log = storing
    for _ in range(3):
        log.put("web1", b"")
    worker.step()
    samples = [sample for one in store_metrics(worker) for sample in one.samples]
    values = {(one.name, one.labels.get("outcome")): one.value for one in samples}
    assert values["dnstrail_fleet_lag", None] == 0
    assert values["dnstrail_fleet_store_total", "refused"] == 3
