"""The connections of a past time are those that were open then, over segments, restarts and forgetting.

Tests of dnstrail_history.past.connections, dnstrail_history.past.open_index, dnstrail.history.open_stages.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import msgpack
import pytest
from msgspec.structs import replace

from builders.facts import BEGIN, OF_UNIT, SECOND, TO_WEB, fact_of, stage_of
from builders.talk import packed
from dnstrail.captured import Flow, Process
from dnstrail.history import open_stages
from dnstrail.history import segment as segments
from dnstrail.history.database import open_reader
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.segment import SCHEMA, StoredProgress, Stretch
from dnstrail.history.subjects import subject_of
from dnstrail.protocol.lookups import encode_request
from dnstrail.protocol.past_lookups import PastImage, encode_past
from dnstrail.protocol.turn_follower import Position
from dnstrail_history.past import connections as past_module
from dnstrail_history.past.answers import answer_past
from dnstrail_history.past.segments import Segments
from dnstrail_history.store import store as stores
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

SMALL = 4  # facts of a segment
HOUR = 3600
NEW_TABLES = ("carried", "carryover", "restarts")


class History:
    """A store of small segments, and what it answers. Times are seconds after BEGIN."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock(wall=BEGIN / 1e9)
        self.segments = Segments(path)
        self.open()
        self._turns = count(1)
        self._fillers = count(1000)

    def open(self) -> None:
        """Let a worker begin whose cache has just begun."""
        self.store = FactStore(self.path, self.clock)
        self.store.knows_begin = True

    def keep(self, *facts, cache: str = "cache", since: int = 0, until: int = HOUR) -> None:
        """Store facts of a run of the cache."""
        assert all(map(self.store.add, facts))
        turn = next(self._turns)
        stretch = Stretch(BEGIN + since * SECOND, BEGIN + until * SECOND)
        positions = {cache: Position(turn, {"dns_transaction": turn}, {})}
        assert self.store.commit(StoredProgress(positions, stretch))

    def fill(self, after: int, count: int = SMALL, **run) -> None:
        """Store transactions about nothing, and let full segments be finished."""
        self.keep(
            *(fact_of(next(self._fillers), ended=BEGIN + after * SECOND, relations=()) for _ in range(count)), **run
        )
        wait_until(lambda: self.store.step() or not [*self.path.glob("*.open")][1:], "the full segments")

    def ask(self, op: str = "connections", after: float = 0, **fields):
        """Return the reply to a lookup."""
        body = encode_past(encode_request(op, at_ns=BEGIN + round(after * SECOND), **fields), PastImage(60.0, 300.0))
        return msgpack.unpackb(answer_past(body, self.segments, lambda: 0.0))

    def ask_at(self, step: float = 0.0, **fields):
        """Return the reply to `trail_many`, on a clock that goes on by a step at each look."""
        body = encode_past(encode_request("trail_many", **fields), PastImage(60.0, 300.0))
        return msgpack.unpackb(answer_past(body, self.segments, (number * step for number in count()).__next__))

    def listed(self, after: float, **fields) -> list[int]:
        """Return the source ports of the connections that were open."""
        return [one["client_port"] for one in self.page(after, **fields)["connections"]]

    def page(self, after: float, **fields):
        """Return a page of connections."""
        return self.ask(after=after, **fields)["data"]

    def close(self) -> None:
        self.store.close()
        self.segments.close()


@pytest.fixture
def history(tmp_path, monkeypatch):
    for one in (segments, stores):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", SMALL)
    history = History(tmp_path / "history")
    yield history
    history.close()


def to_web(number: int, address: str = "192.0.2.1", port: int = 443) -> Flow:
    """Return the flow of a connection; its source port is its number."""
    return Flow(TO_WEB.source, number, packed(address), port, "tcp", namespace=3)


def opened(number: int, after: float = 0, **values):
    """Return the opening of a connection."""
    flow = to_web(number, values.pop("address", "192.0.2.1"))
    return stage_of(number, time=BEGIN + round(after * SECOND), flow=flow, socket=5000 + number, **values)


def ended(number: int, after: float, lasted: float):
    """Return the end of a connection."""
    return later("end", number, after, lasted, why="closed")


def later(stage: str, number: int, after: float, lasted: float, **values):
    """Return a later stage of a connection."""
    time, since = BEGIN + round(after * SECOND), round(lasted * SECOND)
    return stage_of(number, stage, time=time, flow=to_web(number), socket=5000 + number, lasted=since, **values)


def test_a_connection_as_the_present_lists_it(history):
    """A page has the form of that of the cache: process, name and how it was bound, and the state of its answers."""
    history.keep(fact_of(1), opened(7, 1), later("result", 7, 1.5, 0.5, connected=True))
    reply = history.ask(after=2)
    assert {**reply, "data": None} == {"v": 1, "ok": True, "data": None, "complete": True, "source": "history"}
    [one] = reply["data"]["connections"]
    assert (one["process_name"], one["container_name"], one["client"], one["client_port"]) == (
        "curl",
        "web",
        "10.0.0.2",
        7,
    )
    assert (one["address"], one["port"], one["transport"], one["connected"]) == ("192.0.2.1", 443, "tcp", True)
    assert (one["name"], one["bound"], one["state"], one["rivals"]) == ("a.example", "thread", "live", [])
    assert (one["since"], one["age"]) == ((BEGIN + SECOND) / 1e9, 1.0)
    assert (reply["data"]["next"], reply["data"]["hosts"], reply["data"]["history"]) == ("", 1, True)
    assert history.page(0.5)["connections"] == []
    assert history.page(1.2)["connections"][0]["connected"] is False
    assert history.page(HOUR - 1)["connections"][0]["state"] == "expired"


def test_a_connection_that_lasts_over_segments(history):
    """A connection is found at each time from its opening to its end, also once its own segment was removed."""
    history.keep(opened(7, 1))
    for after in (10, 20, 30):
        history.fill(after)
    history.keep(ended(7, 35, 34))
    history.fill(40)
    times = (0.5, 1, 10, 15, 25, 34.9, 35, 45)
    assert [history.listed(after) for after in times] == [[], [7], [7], [7], [7], [7], [], []]
    assert all(history.page(after)["history"] for after in times)
    first, second = sorted(history.path.glob("*.segment"))[:2]
    first.unlink()
    second.unlink()
    assert history.listed(25) == [7]
    found = history.ask("get", 25, key="192.0.2.1", process=7, port=443)["data"]
    assert (found["dns_root"], found["dns_queries"]) == ("a.example", ["a.example"])
    assert "data" not in history.ask("get", 36, key="192.0.2.1", process=7, port=443)


def test_an_end_that_was_published_late(history):
    """The end of a process waits a second for the bytes of its connections: it may stand in the next segment."""
    history.keep(opened(7, 1), opened(8, 1))
    history.fill(5, 2)
    history.fill(5, 1)
    history.keep(ended(7, 4, 3))
    assert (history.listed(3), history.listed(4.5)) == ([7, 8], [8])


def test_what_selects(history):
    """Process, container, unit and host select; source port and process name one connection for `get` and `trail`."""
    history.keep(opened(7, 1), opened(8, 2, name="b.example"))
    assert history.listed(3, process=7, container="c0f", host="web1") == [7, 8]
    assert [history.listed(3, **one) for one in ({"process": 8}, {"container": "x"}, {"host": "web2"})] == [[], [], []]
    of_root, of_alice = (Process(7, "curl", unit=f"{user}a.service", slice=f"{user}b.slice") for user in ("", "alice/"))
    history.keep(replace(opened(10, 2), process=of_root), replace(opened(11, 2), process=of_alice))
    for unit in ("a.service", "b.slice"):
        assert (history.listed(3, unit=unit), history.listed(3, unit=f"alice/{unit}")) == ([10], [11])
    assert [history.listed(3, unit=unit) for unit in ("", "*", "bob/a.service")] == [[7, 8], [], []]
    for op in ("get", "trail"):
        roots = []
        for port in (7, 8, 9):
            data = history.ask(op, 3, key="192.0.2.1", source_port=port).get("data")
            roots.append(data and (data["dns_root"] if op == "get" else data["trails"][0]["dns_root"]))
        assert roots == ["a.example", "b.example", None]


def test_the_first_time_of_an_open_segment(history):
    """It is that of the fact that ended first, in whatever order they arrived."""
    history.keep(*(fact_of(number, ended=BEGIN + (9 - number) * SECOND) for number in range(3)))
    with history.segments.opened() as [segment]:
        assert segment.first == BEGIN + 7 * SECOND


def test_the_name_that_a_connection_sent(history):
    """It is the name of the connection from then on, and one of the server names of a trail."""
    said = later("named", 7, 2, 1, name="shop.example", bound="sni")
    history.keep(fact_of(1), opened(7, 1), said)
    assert [history.page(after)["connections"][0]["name"] for after in (1, 3)] == ["a.example", "shop.example"]
    for after, names in ((1.5, []), (3, ["shop.example"])):
        trails = history.ask("trail", after, key="192.0.2.1")["data"]
        assert [one["name"] for one in trails["server_names"]] == names


def test_connections_of_an_earlier_run_of_the_cache(history):
    """Nobody states their ends: they are listed until the last time of that run, and those of the next run after it."""
    history.keep(opened(7, 1), until=50)
    history.keep(opened(8, 60), cache="other", since=55, until=100)
    assert [history.listed(after) for after in (49, 61)] == [[7], [8]]
    history.fill(90)
    history.keep(opened(9, 95), cache="other", since=55, until=200)
    assert history.listed(99) == [8, 9]


def test_more_connections_than_a_segment_carries(history, monkeypatch):
    """The last opened ones are carried, and `history` is false, until another run of the cache begins."""
    monkeypatch.setattr(open_stages, "MOST_CARRIED", 2)
    history.keep(*(opened(number, number) for number in range(1, 4)))
    assert (history.listed(9), history.page(9)["history"]) == ([1, 2, 3], True)
    history.fill(10)
    history.fill(20)
    assert (history.listed(25), history.page(25)["history"]) == ([2, 3], False)
    assert history.ask("get", 25, key="192.0.2.1", process=7, port=443)["data"]["history"] is False
    other = {"cache": "other", "since": HOUR + 1, "until": 9 * HOUR}
    history.fill(2 * HOUR, **other)
    history.fill(3 * HOUR, **other)
    history.keep(opened(9, 4 * HOUR), **other)
    assert (history.listed(8 * HOUR), history.page(8 * HOUR)["history"]) == ([9], True)


def test_a_segment_whose_predecessor_is_missing(history):
    """Where a segment is missing its connections are unknown: `history` is false."""
    history.keep(opened(7, 1))
    history.fill(10)
    history.keep(opened(8, 15))
    history.fill(20)
    history.fill(30)
    _, second = sorted(history.path.glob("*.segment"))[:2]
    second.unlink()
    assert history.page(17)["history"] is False
    assert history.page(5)["history"] is True


@pytest.mark.parametrize("filled", [0, 2, SMALL], ids=["beside it", "part", "a segment later"])
def test_a_connection_whose_end_was_lost(history, filled):
    """After a loss of facts nobody knows which connections were closed meanwhile, until the cache starts again."""
    history.keep(opened(7, 1), until=50)
    history.fill(10, filled, until=50)
    after_loss = {"since": 60, "until": 3 * HOUR}
    history.keep(opened(8, 70), **after_loss)
    history.fill(80, 2, **after_loss)
    assert [history.page(after)["history"] for after in (20, 2 * HOUR)] == [True, False]
    history.fill(HOUR, **after_loss)
    history.fill(HOUR, **after_loss)
    assert [history.page(after)["history"] for after in (20, 2 * HOUR)] == [True, False]
    history.close()
    history.open()
    history.fill(2 * HOUR, **after_loss)
    assert history.page(3 * HOUR - 1)["history"] is False
    history.keep(opened(9, 4 * HOUR), cache="other", since=3 * HOUR + 1, until=9 * HOUR)
    assert (history.listed(8 * HOUR), history.page(8 * HOUR)["history"]) == ([9], True)


def test_a_history_that_began_after_the_cache(history):
    """The connections that were open before are unknown until the cache starts again."""
    history.store.knows_begin = False
    history.keep(opened(7, 1))
    assert (history.listed(2), history.page(2)["history"]) == ([7], False)
    history.keep(opened(8, 2 * HOUR), cache="other", since=HOUR + 1, until=3 * HOUR)
    assert (history.listed(3 * HOUR - 1), history.page(3 * HOUR - 1)["history"]) == ([8], True)


def test_connections_are_read_for_a_bounded_time(history):
    """What the time does not suffice for is missing, and `history` is false."""
    history.keep(opened(7, 1))
    with history.segments.opened() as found:
        at = BEGIN + 2 * SECOND
        assert past_module.open_then(found, at, lambda: False).whole
        assert past_module.open_then(found, at, lambda: True) == ([], False)


def test_a_segment_whose_begin_could_not_be_written(history, monkeypatch):
    """What it carries is written as soon as that is possible, also by the next worker."""
    history.keep(opened(7, 1))
    history.fill(10, SMALL - 1)
    for restarts in (False, True):
        with monkeypatch.context() as patched:
            patched.setattr(segments.OpenSegment, "carry", failing)
            assert history.store.add(fact_of(next(history._fillers), ended=BEGIN + 20 * SECOND, relations=()))
            assert not history.store.commit(history.store.progress)
        progress = history.store.progress
        if restarts:
            history.close()
            history.open()
            assert history.store.progress == progress
        history.clock.advance(2)
        history.fill(30, SMALL - (not restarts))
        assert (history.listed(25), history.page(25)["history"]) == ([7], True)


def failing(*_: object) -> None:
    raise sqlite3.OperationalError("no space")


def as_version_3(path: Path) -> None:
    """Make a segment as the third version of the schema has it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("ALTER TABLE programs DROP COLUMN labels")
        database.execute("PRAGMA user_version = 3")


def as_version_2(path: Path) -> None:
    """Make a segment as the second version of the schema has it."""
    as_version_3(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for column in ("unit", "slice"):
            database.execute(f"ALTER TABLE programs DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 2")


def as_version_1(path: Path) -> None:
    """Make a segment as the first version of the schema has it."""
    as_version_2(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for table in NEW_TABLES:
            database.execute(f"DROP TABLE {table}")
        database.execute("PRAGMA user_version = 1")


def begin_in_earlier(history, as_earlier) -> Path:
    """Store fact 1 in an open segment of an earlier version, and open the history again; return the segment."""
    history.keep(fact_of(1))
    history.close()
    [path] = history.path.glob("*.open")
    as_earlier(path)
    history.__init__(history.path)
    return path


def test_a_full_segment_of_version_1_is_read(history):
    """It states the connections of its own facts: `history` is false, since those opened before are unknown."""
    history.keep(fact_of(1), opened(7, 1))
    history.fill(10)
    [path] = history.path.glob("*.segment")
    as_version_1(path)
    assert (history.listed(5), history.page(5)["history"]) == ([7], False)
    assert history.ask("get", 5, key="a.example")["data"]["history"] is True
    assert history.ask("trail", 5, key="192.0.2.1", process=7, port=443)["data"]["trails"][0]["dns_root"] == "a.example"
    request = ask_to_forget(history.path, subject_of("a.example"))
    wait_until(lambda: history.clock.advance(1) or history.store.step() or not request.exists(), "the request")
    assert history.listed(5) == []


@pytest.mark.parametrize("as_earlier", [as_version_2, as_version_3])
def test_the_log_reads_an_earlier_segment(history, as_earlier):
    """Entries of an earlier segment have no unit, or no labels, full or open, and the reader changes neither file."""
    history.keep(fact_of(1))
    history.fill(10)
    history.keep(fact_of(20))
    paths = [*history.path.glob("*.segment"), *history.path.glob("*.open")]
    history.close()
    for path in paths:
        as_earlier(path)
    before = [path.read_bytes() for path in paths]
    found = [*HistoryLog(history.path, pytest.fail).read(LogSelection())]
    assert (len(found), {(entry.unit, *entry.container_labels) for entry in found}) == (SMALL + 2, {("",)})
    for none in (LogSelection(unit="*"), LogSelection(container="app=*")):
        assert [*HistoryLog(history.path, pytest.fail).read(none)] == []
    assert [path.read_bytes() for path in paths] == before
    history.__init__(history.path)


def test_an_open_segment_of_version_2_gets_units(history):
    """A worker goes on with it: its facts have no unit, and the next ones have theirs."""
    begin_in_earlier(history, as_version_2)
    history.keep(fact_of(2, process=Process(7, "curl", unit="web.service", slice="web.slice")))
    found = [(entry.unit, entry.slice) for entry in HistoryLog(history.path, pytest.fail).read(LogSelection())]
    assert found == [("", ""), ("web.service", "web.slice")]
    [of_unit] = HistoryLog(history.path, pytest.fail).read(LogSelection(unit="web.slice"))
    assert of_unit.process_name == "curl"


def test_an_open_segment_of_version_3_gets_labels(history):
    """A worker goes on with it: its facts have no labels, and the next ones have theirs, also once they are read."""
    path = begin_in_earlier(history, as_version_3)
    labelled = Process(7, "curl", container_id="c1", container_labels=(("app", "web"), ("team", "")))
    history.keep(fact_of(2, process=labelled))
    history.close()
    history.__init__(history.path)
    history.keep(fact_of(3, process=labelled))
    found = [entry.container_labels for entry in HistoryLog(history.path, pytest.fail).read(LogSelection())]
    assert found == [{}, *[{"app": "web", "team": ""}] * 2]
    assert len([*HistoryLog(history.path, pytest.fail).read(LogSelection(container="app=we?"))]) == 2
    with closing(open_reader(path, SCHEMA, final=False)) as database:
        assert database.execute("SELECT count(*) FROM programs WHERE labels != ''").fetchone() == (1,)


def test_an_open_segment_of_version_1_gets_the_new_tables(history):
    """A worker goes on with it: facts stay, and the next segment carries what is open."""
    history.keep(opened(7, 1))
    history.close()
    [path] = history.path.glob("*.open")
    as_version_1(path)
    history.__init__(history.path)
    with closing(open_reader(path, SCHEMA, final=False)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA.version,)
        assert {*NEW_TABLES} <= {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    history.fill(10)
    history.fill(20)
    assert (history.listed(25), history.page(25)["history"]) == ([7], False)


@pytest.mark.parametrize("filled", [0, 2, SMALL], ids=["beside it", "part", "a segment later"])
def test_what_is_forgotten_is_carried_no_further(history, filled):
    """No segment holds a connection of a forgotten name, though it is open; others stay, and it is known to miss."""
    history.keep(opened(7, 1, name="secret.example"), later("named", 7, 2, 1, name="b.example", bound="sni"))
    history.keep(opened(8, 3), later("result", 8, 3.5, 0.5, connected=True))
    if filled:
        history.fill(10, filled)
    assert history.listed(11) == [7, 8]
    request = ask_to_forget(history.path, subject_of("secret.example"))
    wait_until(lambda: history.clock.advance(1) or history.store.step() or not request.exists(), "the request")
    held = [path for path in history.path.iterdir() if b"secret" in path.read_bytes() or b"terces" in path.read_bytes()]
    assert (held, history.listed(11)) == ([], [8])
    history.fill(20)
    assert history.listed(25) == [8]
    assert [history.page(after)["history"] for after in (0.5, 2, 25)] == [True, False, False]
    history.fill(2 * HOUR, until=9 * HOUR)
    history.fill(3 * HOUR, 1, until=9 * HOUR)
    assert (history.listed(3 * HOUR), history.page(3 * HOUR)["history"]) == ([8], False)
    history.keep(opened(9, 10 * HOUR), cache="other", since=9 * HOUR + 1, until=20 * HOUR)
    assert (history.listed(19 * HOUR), history.page(19 * HOUR)["history"]) == ([9], True)


def test_pages_hold_each_connection_once(history, monkeypatch):
    """A page has a bounded number of addresses and connections; connections of one time are told apart."""
    monkeypatch.setattr(stores, "MOST_TRANSACTIONS", 10_000)
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", 10_000)
    many = [opened(number, 1 + number // 50, address=f"192.0.2.{number % 40}") for number in range(1, 100)]
    same = [opened(number, 9) for number in range(100, 700)]
    history.keep(*many, *same)
    found, sizes, cursor = [], [], ""
    while cursor or not sizes:
        page = history.page(10, cursor=cursor)
        found += [one["client_port"] for one in page["connections"]]
        sizes.append(len(page["connections"]))
        cursor = page["next"]
    assert found == [*range(1, 700)]
    assert (max(sizes), len(sizes)) == (256, 6)


def test_a_trail_applies_a_bounded_number_of_connections(history, monkeypatch):
    """Beyond it `history` is false."""
    history.keep(fact_of(1), *(opened(number, number / 100) for number in range(2, 5)))
    trail = history.ask("trail", 1, key="192.0.2.1", port=443)["data"]
    assert (trail["history"], "1 answers led to 3 connections to port 443" in trail["trails"][0]["reasons"]) == (
        True,
        True,
    )
    monkeypatch.setattr(past_module, "MOST_CONNECTIONS", 2)
    assert history.ask("trail", 1, key="192.0.2.1", port=443)["data"]["history"] is False


def test_first_trails_of_many_connections(history):
    """Each is answered as of its own time, with the name to which it was bound, and its process."""
    history.keep(fact_of(1, process=OF_UNIT), replace(opened(7, 1), process=OF_UNIT), until=60)
    times = [BEGIN + SECOND * after for after in (2, 2, 80)]
    known = [{"port": 443, "source_port": 7}, {}, {}]
    to = [{"address": "192.0.2.1", "at_ns": at, **one} for at, one in zip(times, known, strict=True)]
    of_unit = {
        "id": 7,
        "name": "curl",
        "executable": "/usr/bin/curl",
        "container_id": "c0ffee",
        "container_name": "web",
        "unit": "web.service",
        "slice": "web.slice",
    }
    unbound = {"dns_root": "a.example", "state": "live", "scope": "any", "asked_by": of_unit}
    reply = history.ask_at(connections=to)
    assert (reply["source"], reply["data"]) == (
        "history",
        [{**unbound, "bound": "thread", "process": of_unit}, unbound, {**unbound, "state": "grace", "history": False}],
    )
    [at_one_time] = history.ask_at(connections=[{"address": "192.0.2.1"}], at_ns=times[0])["data"]
    assert at_one_time == unbound
    assert history.ask_at(connections=[{"address": "192.0.2.1"}])["error"] == "bad_request"


def test_first_trails_take_bounded_time(history):
    """A reply ends once its time is over, with one connection at least; its last one lacks no answers."""
    history.keep(fact_of(1))
    to = [{"address": "192.0.2.1", "at_ns": BEGIN + SECOND}] * 99
    whole, one = ([*history.ask_at(connections=to, step=step)["data"]] for step in (0.0005, 1.0))
    assert 1 < len(whole) < len(to)
    assert {trail.get("history", True) for trail in whole} == {True}
    assert [trail["history"] for trail in one] == [False]


HOSTILE = {
    "SQL": {"container": "'; DROP TABLE connections; --"},
    "a far cursor": {"cursor": f"{'9' * 19} {'9' * 19}"},
    "a far time": {"after": 1e9},
    "before all time": {"after": -1e9},
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_hostile_requests_find_nothing(history, fields):
    """They are answered, and harm nothing."""
    history.keep(opened(7, 1))
    assert history.listed(**{"after": 2, **fields}) in ([], [7] if fields.get("after") == 1e9 else [])
    assert history.listed(2) == [7]
