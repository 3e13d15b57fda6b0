"""A sender goes on where it stopped, waits while the engine is away, and states each fault once.

Tests of dnstrail_fleet.sender.worker, dnstrail_fleet.sender.state, dnstrail.history.following.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from builders.fleet import NOON, SECOND, FakeLog, FakeSpool, answer, use
from dnstrail.errors import SettingsError
from dnstrail_fleet.files import open_file
from dnstrail_fleet.metrics import sender_metrics
from dnstrail_fleet.row import FleetEntry, read_entry
from dnstrail_fleet.sender import worker as module
from dnstrail_fleet.sender.state import _KIND, _VERSIONS, SenderState
from dnstrail_fleet.sender.totals import RowKey
from dnstrail_fleet.sender.worker import FleetSender
from live.workers import FakeClock

SHOP = ("shop.example", 1, "203.0.113.7")
MAIL = ("mail.example", 1, "203.0.113.9")


class Sending:
    """A sender over a history and a log in memory, which a test restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(NOON)
        self.log = FakeLog()
        self.spool = FakeSpool()
        self.start()

    def start(self) -> None:
        """Start it."""
        self.state = SenderState(self.folder)
        self.sender = FleetSender(self.spool, self.log, self.state, self.clock, "web1")

    def restart(self) -> None:
        """Kill it, and start another one."""
        self.state.close()
        self.start()

    def steps(self, seconds: int = 1) -> None:
        """Let seconds pass."""
        for _ in range(seconds):
            self.sender.step()
            self.clock.advance(1)

    @property
    def sent(self) -> list[FleetEntry]:
        """The entries with rows."""
        read = (read_entry(one.body, "web1", one.at, one.at).entry for one in self.log.entries)
        return [one for one in read if one.askers]

    @property
    def counts(self) -> list[int]:
        """The count of each row that was sent."""
        return [row.count for one in self.sent for asker in one.askers for row in asker.rows]

    @property
    def uses(self) -> list[tuple[int, bool]]:
        """The connection of each row that was sent, and whether one was sent before."""
        return [(row.used, row.reused) for one in self.sent for asker in one.askers for row in asker.rows]


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[Sending]:
    """Return a sender in a folder of its own."""
    found = Sending(tmp_path / "state")
    yield found
    found.state.close()


def test_a_restart_loses_and_repeats_nothing(sending: Sending) -> None:
    """After a restart the totals go on, and a known relation still waits for its 15 minutes."""
    sending.spool.answers += [answer(SHOP), answer(SHOP)]
    sending.steps(2)
    sending.restart()
    sending.spool.answers.append(answer(SHOP, ended=(NOON + 5) * SECOND))
    sending.steps(2)
    assert sending.counts == [2]
    sending.clock.advance(900)
    sending.log.at += 900_000
    sending.steps()
    assert sending.counts == [2, 3]
    assert sending.sender.counters["read"] == 1


def test_a_connection_is_sent_once_over_a_restart(sending: Sending) -> None:
    """The first connection of a relation goes at once, after a restart too, and the next ones after 15 minutes."""
    sending.spool.answers.append(answer(SHOP))
    sending.steps(2)
    sending.log.fault = "away"
    sending.spool.uses.append(use(*SHOP[::2], NOON + 2))
    sending.steps(2)
    sending.log.fault = ""
    sending.restart()
    sending.steps(2)
    sending.restart()
    sending.spool.uses.append(use(*SHOP[::2], NOON + 5))
    sending.steps(2)
    assert sending.uses == [(0, False), (NOON + 2, False)]
    sending.clock.advance(900)
    sending.log.at += 900_000
    sending.steps()
    assert sending.uses[2:] == [(NOON + 5, True)]


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its rows have no connections, and wait as long as before."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with closing(open_file(folder / "sender.db", _KIND, _VERSIONS[:1])) as database:
        for number, (sent, waits) in enumerate([(NOON, 1), (NOON, 0), (float("-inf"), 1)]):
            key = msgspec.msgpack.encode(RowKey("", "", "", "a", "a", 1, f"192.0.2.{number}"))
            database.execute("INSERT INTO rows VALUES (?, 1, 2, 3, 4, 5, 0, 0, ?, ?)", (key, sent, waits))
    with closing(SenderState(folder)) as state:
        rows = {one.key.target: (one.due, one.count, one.used, one.sent_use) for one in state.load()}
    assert rows == {
        "192.0.2.0": (NOON + 900, 5, 0, 0),
        "192.0.2.1": (None, 5, 0, 0),
        "192.0.2.2": (float("-inf"), 5, 0, 0),
    }


def test_after_a_kill_before_its_state_an_entry_is_sent_again(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry whose state was not stored is sent again, with the same totals."""
    sending.spool.answers += [answer(SHOP), answer(MAIL)]
    with monkeypatch.context() as patch:
        patch.setattr(SenderState, "save", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("killed")))
        sending.steps()
    sending.restart()
    sending.steps()
    assert sending.sent[0].askers == sending.sent[1].askers
    assert sending.counts == [1, 1, 1, 1]


def test_what_was_read_since_the_last_save_is_read_and_sent_again(sending: Sending) -> None:
    """The state is stored once in five seconds. After a kill in between the totals are those that were sent."""
    saved = []
    for second in range(10):
        sending.spool.answers.append(answer((f"n{second}.example", 1, "203.0.113.7")))
        sending.spool.answers.append(answer(SHOP))
        sending.steps()
        saved.append(sending.state.position.number)
    assert saved == [2] * 5 + [12] * 5
    sending.restart()
    sending.steps()
    assert sending.counts == [1] * 15
    sending.clock.advance(900)
    sending.log.at += 900_000
    sending.steps()
    assert sending.counts[15:] == [10]


def test_while_the_engine_is_away_the_history_keeps_what_comes(sending: Sending) -> None:
    """Nothing is read while the engine is away; one line states it, and what comes meanwhile is sent within 2 s."""
    sending.spool.answers.append(answer(SHOP))
    sending.log.fault = "away"
    with capture_logs() as logs:
        sending.steps(10)
        reads = sending.spool.reads
        sending.spool.answers.append(answer(MAIL))
        sending.steps(3590)
        assert sending.spool.reads == reads == 1
        sending.log.fault = ""
        sending.log.at += 3_600_000
        sending.steps(2)
    assert sending.counts == [1, 1]
    assert [line["event"] for line in logs] == ["engine_unavailable", "fleet_recovered"]
    assert sending.sender.fault == ""


def test_each_fault_has_one_line(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that cannot be read, and a state that cannot be stored, are stated once each."""
    sending.spool.answers.append(answer(SHOP))
    sending.spool.fault = sqlite3.OperationalError("locked")
    with capture_logs() as logs, monkeypatch.context() as patch:
        sending.steps(5)
        sending.spool.fault = None
        patch.setattr(SenderState, "save", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk full")))
        sending.steps(5)
        assert sending.sender.fault == "disk full"
    assert [one["event"] for one in logs] == ["history_not_followed", "fleet_recovered", "state_not_stored"]
    sending.steps()
    assert (sending.sender.fault, sending.counts) == ("", [1])


def test_an_idle_host_states_that_it_is_alive(sending: Sending) -> None:
    """Without rows, an entry comes every 30 seconds."""
    sending.steps(61)
    assert (len(sending.log.entries), sending.sent) == (3, [])


def test_metrics_state_what_was_sent(sending: Sending) -> None:
    """The metrics hold the counters, and the rows that wait."""
    sending.spool.answers += [answer(SHOP), answer(MAIL)]
    sending.log.repeated = 5
    sending.steps()
    sending.spool.answers.append(answer(SHOP))
    sending.steps()
    samples = [sample for one in sender_metrics(sending.sender) for sample in one.samples]
    values = {(one.name, one.labels.get("outcome")): one.value for one in samples}
    assert values["dnstrail_fleet_sender_total", "read"] == 3
    assert values["dnstrail_fleet_sender_total", "rows"] == 2
    assert values["dnstrail_fleet_sender_total", "repeated"] == 5
    assert values["dnstrail_fleet_waiting", None] == 1


def test_rows_that_wait_are_bounded(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    """While too many rows wait, the sender reads no further."""
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    sending.steps()
    sending.spool.answers += [answer(SHOP), answer(MAIL)]
    sending.log.fault = "full"
    sending.steps()
    sending.log.fault, reads = "", sending.spool.reads
    sending.sender._faults.clear()
    sending.steps()
    assert sending.spool.reads == reads
    sending.steps()
    assert sending.spool.reads > reads


def test_dropped_segments_are_counted_over_a_restart(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that were removed unread are counted, and each entry states their number, also after a restart."""
    read = sending.spool.read
    monkeypatch.setattr(sending.spool, "read", lambda *given: read(*given)._replace(dropped=2))
    sending.spool.answers.append(answer(SHOP))
    with capture_logs() as logs:
        sending.steps()
    monkeypatch.undo()
    sending.restart()
    sending.spool.answers.append(answer(MAIL))
    sending.steps()
    assert [one.dropped for one in sending.sent] == [2, 2]
    assert [line["count"] for line in logs if line["event"] == "segments_not_sent"] == [2]


def test_a_full_disk_loses_no_row(sending: Sending) -> None:
    """Rows of which only some found room are stored once there is room for all, also those that were stored before."""
    sending.spool.answers.append(answer(SHOP))
    sending.steps()
    database = sending.state._database
    [size] = database.execute("PRAGMA page_count").fetchone()
    sending.spool.answers += [answer((f"n{number}.example", 1, "203.0.113.7")) for number in range(500)]
    sending.spool.answers.append(answer(SHOP))
    database.execute(f"PRAGMA max_page_count={size + 2}")
    sending.steps(5)
    assert "full" in sending.sender.fault
    database.execute("PRAGMA max_page_count=100000")
    sending.steps(5)
    assert sending.sender.fault == ""
    sending.restart()
    rows = {row.key.question: row.count for row in sending.state.load()}
    assert rows == {"shop.example": 2, **{f"n{number}.example": 1 for number in range(500)}}


def test_a_state_is_used_by_one_process_and_named_if_damaged(tmp_path: Path) -> None:
    """A second sender is refused, and so is a file that is no state."""
    with closing(SenderState(tmp_path / "a")), pytest.raises(SettingsError, match="in use"):
        SenderState(tmp_path / "a")
    (tmp_path / "b").mkdir(mode=0o700)
    (tmp_path / "b" / "sender.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match=r"sender\.db"):
        SenderState(tmp_path / "b")
