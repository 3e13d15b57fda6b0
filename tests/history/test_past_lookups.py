"""The history answers lookups of a past time at its socket, and states where it does not know all.

Tests of dnstrail_history.past.given_answers, dnstrail.protocol.lookup_thread.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import msgpack
import pytest

from builders.facts import BEGIN, SECOND, fact_of, locked, progress_of
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import history_address, lookups_address
from dnstrail.errors import BusError
from dnstrail.history import closing as closing_module
from dnstrail.history import segment as segments
from dnstrail.history.closing import finish
from dnstrail.history.database import open_reader
from dnstrail.history.segment import Stretch
from dnstrail.history.subjects import subject_of
from dnstrail.protocol.lookups import encode_request
from dnstrail.protocol.past_lookups import PastImage, encode_past
from dnstrail_history.past import reading, segment_readers
from dnstrail_history.past import segments as segments_module
from dnstrail_history.past import server as module
from dnstrail_history.past.answers import answer_past
from dnstrail_history.past.segment_readers import FullSegment, OpenSegmentReader
from dnstrail_history.past.segments import Segments
from dnstrail_history.past.server import PastServer
from dnstrail_history.store import store as stores
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, open_bus, short_folder, wait_until

PRESENT = PastImage(60.0, 300.0)
HOUR = 3600 * SECOND
LATER = BEGIN + SECOND
FOUND = {
    "ip_addresses": ["192.0.2.1"],
    "dns_queries": ["a.example", "b.example"],
    "dns_root": "a.example",
    "state": "live",
    "truncated": False,
}


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


def forwarded(op="get", present=PRESENT, **fields):
    """Return a request as the cache forwards it."""
    return encode_past(encode_request(op, **fields), present)


class History:
    """A store with its facts, and what it answers."""

    def __init__(self, folder):
        self.path = folder / "history"
        self.segments = Segments(self.path)
        self._turn = 0

    def keep(self, *facts, since=BEGIN, until=BEGIN + HOUR, full=False):
        """Store facts; `full`: the segment is finished."""
        with pytest.MonkeyPatch.context() as patched:
            for one in (segments, stores):
                patched.setattr(one, "MOST_TRANSACTIONS", len(facts) if full else 1000)
            with closing(FactStore(self.path, FakeClock())) as store:
                for fact in facts:
                    assert store.add(fact)
                self._turn += 1
                progress = progress_of(self._turn)._replace(stretch=Stretch(since, until))
                assert store.commit(progress)
                if full:
                    assert store.commit(progress_of(self._turn + 1)._replace(stretch=Stretch(since, until)))
                    wait_until(lambda: store.step() or store.counters["finished"], "the segment")

    def ask(self, op="get", monotonic=lambda: 0.0, **fields):
        """Return the reply to a lookup."""
        return msgpack.unpackb(answer_past(forwarded(op, **fields), self.segments, monotonic))


@pytest.fixture
def history(folder):
    history = History(folder)
    yield history
    history.segments.close()


def test_the_operations(history):
    """`get`, `get_many` and `trail` have the form of the cache's replies, and state their source."""
    history.keep(fact_of())
    found = {**FOUND, "history": True}
    assert history.ask(key="192.0.2.1", at_ns=LATER) == {
        "v": 1, "ok": True, "data": found, "complete": True, "source": "history"
    }  # fmt: skip
    reply = history.ask("get_many", keys=["B.example.", "", "c.example"], at=LATER / SECOND)
    assert reply["data"] == [{**found, "ip_addresses": ["192.0.2.1"]}, None, None]
    assert "history" not in reply
    trail = history.ask("trail", key="192.0.2.1", process=7, at_ns=LATER)["data"]
    [path] = trail["trails"]
    [asker] = path["asked"]
    assert (path["dns_root"], path["scope"], path["state"], trail["history"]) == ("a.example", "process", "live", True)
    assert (asker["process_name"], asker["container_id"], asker["server"]) == ("curl", "c0ffee", "10.0.0.53")
    assert (path["first_seen"], "host" in asker) == (BEGIN / SECOND, False)


def test_the_hosts_of_a_cache_of_several(history):
    """A reply names hosts where the cache that forwards the lookup follows several."""
    history.keep(fact_of())
    several = PastImage(60.0, 300.0, several=True)
    assert history.ask(key="a.example", at_ns=LATER, present=several)["data"]["hosts"] == ["web1"]
    [path] = history.ask("trail", key="a.example", at_ns=LATER, present=several)["data"]["trails"]
    assert path["asked"][0]["host"] == "web1"


@pytest.mark.parametrize("full", [False, True])
def test_an_address_of_many_names(history, monkeypatch, full):
    """A lookup of one of many names of an address does not read the answers of the others; one of the address does."""
    monkeypatch.setattr(reading, "MOST_RELATIONS", 20)
    names = [f"n{number}.example" for number in range(60)]
    history.keep(*(fact_of(n, relations=((name, 1, "192.0.2.1", 60),)) for n, name in enumerate(names)), full=full)
    found = history.ask(key="n7.example", at_ns=LATER)["data"]
    assert (found["ip_addresses"], found["dns_queries"], found["history"]) == (["192.0.2.1"], ["n7.example"], True)
    assert history.ask(key="192.0.2.1", at_ns=LATER)["data"]["history"] is False


@pytest.mark.parametrize("full", [False, True])
def test_a_name_below_an_address(history, full):
    """A reverse name leads from its address to names, and on to what these lead to."""
    chain = (("192.0.2.1", 12, "a.example", 60), ("a.example", 1, "192.0.2.9", 60))
    facts = [fact_of(n, name=one[0], relations=(one,)) for n, one in enumerate(chain)]
    history.keep(fact_of(7, relations=(("b.example", 1, "192.0.2.1", 60),)), *facts, full=full)
    found = history.ask("trail", key="b.example", process=7, at_ns=LATER)["data"]
    assert [one["dns_root"] for one in found["trails"]] == ["b.example"]
    assert "a.example" in history.ask(key="192.0.2.1", at_ns=LATER)["data"]["dns_queries"]


@pytest.mark.parametrize(("after", "state"), [(0, "live"), (59, "live"), (60, "grace"), (119, "grace"), (120, None)])
def test_the_grace_of_the_image_counts(history, after, state):
    """A name is found for its TTL and the grace of the present image."""
    history.keep(fact_of(relations=(("a.example", 1, "192.0.2.1", 60),)))
    reply = history.ask(key="a.example", at_ns=BEGIN + after * SECOND)
    assert reply.get("data", {}).get("state") == state


def test_a_time_before_any_history(history):
    """Nothing is found, and nothing is known: `history` is false."""
    for kept in (False, True):
        if kept:
            history.keep(fact_of())
        reply = history.ask(key="a.example", at_ns=BEGIN - SECOND)
        assert (reply["error"], reply["history"], reply["source"]) == ("data_not_found", False, "history")
        assert history.ask("get_many", keys=["a.example"], at_ns=BEGIN - SECOND)["history"] is False


def test_a_folder_that_is_missing_knows_nothing(history):
    """The store may not have been made yet, or be gone."""
    assert history.ask(key="a.example", at_ns=LATER)["history"] is False


def test_what_follows_a_loss_is_doubtful_for_an_hour(history):
    """Where facts were lost `history` is false, and an hour longer: their relations may still have been live."""
    history.keep(fact_of(1), until=BEGIN + 100 * SECOND)
    history.keep(fact_of(2, ended=BEGIN + 2 * HOUR), since=BEGIN + HOUR, until=BEGIN + 5 * HOUR)
    known = [
        history.ask(key="x.example", at_ns=BEGIN + at).get("history", True)
        for at in (0, 100 * SECOND, 101 * SECOND, HOUR, 2 * HOUR - 1, 2 * HOUR, 5 * HOUR, 5 * HOUR + 1)
    ]
    assert known == [True, True, False, False, False, True, True, False]


@pytest.fixture
def three(history):
    """Return a history of three full segments, an hour each, and their paths."""
    for number in range(3):
        fact = fact_of(number, ended=BEGIN + number * HOUR, relations=((f"n{number}.example", 1, "192.0.2.1", 5),))
        history.keep(fact, until=BEGIN + (number + 1) * HOUR, full=True)
    return history, sorted(history.path.glob("*.segment"))


def known(history):
    """Return whether all is known within each of three hours and later."""
    times = (BEGIN + (number * HOUR) + 60 * SECOND for number in range(3))
    return [history.ask(key="x.example", at_ns=at).get("history", True) for at in times]


def test_all_is_known_over_the_segments(three):
    """Segments that follow each other leave no gap."""
    history, paths = three
    assert (len(paths), known(history)) == (3, [True, True, True])


def test_a_missing_segment_is_a_gap(three):
    """Where a segment is missing `history` is false, and the others answer."""
    history, paths = three
    paths[1].unlink()
    assert known(history) == [True, False, False]
    assert history.ask(key="n2.example", at_ns=BEGIN + 2 * HOUR)["data"]["history"] is False
    assert history.ask(key="n0.example", at_ns=BEGIN)["data"]["history"] is True


def test_what_was_removed_as_too_old_is_no_longer_known(three):
    """The time before the first segment that is left is not known."""
    history, paths = three
    paths[0].unlink()
    assert known(history) == [False, False, True]


def test_a_damaged_segment_is_left_out(three):
    """A segment with random bytes anywhere never stops a lookup; the others answer."""
    history, paths = three
    whole, chance = paths[1].read_bytes(), Random(1)
    for _ in range(40):
        place = chance.randrange(len(whole))
        size = chance.choice([1, 16, 4096])
        paths[1].write_bytes(whole[:place] + chance.randbytes(size) + whole[place + size :])
        with closing(Segments(history.path)) as history.segments:
            for key in ("n1.example", "192.0.2.1"):
                for operation in ("get", "trail"):
                    assert history.ask(operation, key=key, at_ns=BEGIN + HOUR)["source"] == "history"
            assert history.ask(key="n0.example", at_ns=BEGIN)["data"]["dns_root"] == "n0.example"
            assert history.ask(key="n2.example", at_ns=BEGIN + 2 * HOUR)["data"]["dns_root"] == "n2.example"


def test_a_segment_that_is_no_database_is_named(three, capsys):
    """It is logged, and `history` is false where it lay."""
    history, paths = three
    paths[1].write_bytes(b"x" * 8192)
    assert known(history) == [True, False, False]
    assert history.segments.unreadable
    assert "history_not_read" in capsys.readouterr().out


def test_what_is_forgotten_is_found_no_more(three):
    """A segment that is written anew without a name is read anew, though the old file was open."""
    history, paths = three
    known = [history.ask(key=f"n{number}.example", at_ns=BEGIN + number * HOUR)["ok"] for number in (0, 1)]
    assert known == [True, True]
    history.keep(fact_of(9, ended=BEGIN + HOUR), full=True)
    other = max(history.path.glob("*.segment"))
    other.replace(paths[1])
    assert history.ask(key="n1.example", at_ns=BEGIN + HOUR)["error"] == "data_not_found"
    assert history.ask(key="a.example", at_ns=BEGIN + HOUR)["ok"]


def test_a_request_to_forget_reaches_the_lookups(three):
    """The store removes a name from all segments; the reader that had answered for it finds nothing."""
    history, _ = three
    assert history.ask(key="n1.example", at_ns=BEGIN + HOUR)["ok"]
    request = ask_to_forget(history.path, subject_of("n1.example"))
    with closing(FactStore(history.path, FakeClock())) as store:
        wait_until(lambda: store.step() or not request.exists(), "the request")
    assert history.ask(key="n1.example", at_ns=BEGIN + HOUR)["error"] == "data_not_found"
    assert history.ask(key="n0.example", at_ns=BEGIN)["ok"]


def test_what_went_with_a_forgotten_address_is_not_known(history):
    """An answer goes with each of its addresses: `history` is false while it was live, and an hour longer."""
    shared = (("cdn.example", 1, "192.0.2.8", 60), ("cdn.example", 1, "192.0.2.9", 90))
    history.keep(
        fact_of(0, relations=(("other.example", 1, "192.0.2.7", 60),)),
        fact_of(1, ended=BEGIN + HOUR, relations=shared),
        fact_of(2, ended=BEGIN + HOUR, relations=(), name="192.0.2.8.example"),
        fact_of(3, ended=BEGIN + 8 * HOUR, relations=shared),
        until=BEGIN + 11 * HOUR,
        full=True,
    )
    for forgotten in ("192.0.2.8", "192.0.2.7"):
        request = ask_to_forget(history.path, subject_of(forgotten))
        with closing(FactStore(history.path, FakeClock())) as store:
            wait_until(lambda: store.step() or not request.exists(), "the request")  # noqa: B023 - within the loop
        reply = history.ask(key="192.0.2.9", at_ns=BEGIN + HOUR + SECOND)
        assert (reply["error"], reply.get("history", True)) == ("data_not_found", False)
    live = [BEGIN, BEGIN + HOUR, BEGIN + 2 * HOUR, BEGIN + 2 * HOUR + 90 * SECOND, BEGIN + 8 * HOUR + SECOND]
    known = [BEGIN + 2 * HOUR + 91 * SECOND, BEGIN + 8 * HOUR - 1, BEGIN + 10 * HOUR]
    asked = [history.ask(key="192.0.2.9", at_ns=at).get("history", True) for at in (*live, *known)]
    assert asked == [False] * len(live) + [True] * len(known)


@pytest.mark.parametrize(("bound", "value"), [("MOST_NODES", 1), ("MOST_RELATIONS", 1)])
def test_a_bound_that_cuts_the_reading(history, monkeypatch, bound, value):
    """A lookup reads a bounded number of names and answers: `history` is then false."""
    facts = [fact_of(one, relations=((f"n{one}.example", 1, "192.0.2.1", 60),)) for one in range(5)]
    history.keep(*facts)
    assert history.ask(key="192.0.2.1", at_ns=LATER)["data"]["history"] is True
    monkeypatch.setattr(reading, bound, value)
    data = history.ask(key="192.0.2.1", at_ns=LATER)["data"]
    assert (data["history"], bool(data["dns_queries"])) == (False, True)


def test_a_lookup_reads_for_a_bounded_time(history):
    """What was read until then is answered: `history` is false."""
    facts = [fact_of(one, relations=((f"n{one}.example", 1, "192.0.2.1", 60),)) for one in range(5)]
    history.keep(*facts)
    times = iter(range(100))
    data = history.ask(key="192.0.2.1", at_ns=LATER, monotonic=lambda: next(times) / 48)["data"]
    assert (data["history"], len(data["dns_queries"])) == (False, 3)


@pytest.fixture
def listed(monkeypatch):
    """Return a list of the answers whose relations lookups list."""
    found = []
    for kind in (OpenSegmentReader, FullSegment):

        def statement(segment, answer, known, original=kind.statement):
            found.append(answer)
            return original(segment, answer, known)

        monkeypatch.setattr(kind, "statement", statement)
    return found


@pytest.mark.parametrize("full", [False, True], ids=["open", "full"])
@pytest.mark.parametrize("bound", ["count", "time"])
def test_a_name_with_another_address_in_each_answer(history, listed, monkeypatch, full, bound):
    """The answers of one name are listed up to a number, and for the time of the lookup."""
    relations = ([("a.example", 1, f"10.0.{one // 256}.{one % 256}", 60)] for one in range(900))
    history.keep(*(fact_of(number, relations=tuple(one)) for number, one in enumerate(relations)), full=full)
    times = itertools.count()
    if bound == "count":
        monkeypatch.setattr(reading, "MOST_RELATIONS", 20)
    reply = history.ask(key="a.example", at_ns=LATER, monotonic=lambda: bound == "time" and next(times) / 100)
    assert reply.get("history", reply.get("data", {}).get("history")) is False
    assert 0 < len(listed) <= 30


def test_facts_that_are_stored_meanwhile_are_found_by_the_next_lookup(history):
    """The index of the open segment grows with it, and another segment follows."""
    for number in range(3):
        history.keep(fact_of(number, ended=BEGIN + number, relations=((f"n{number}.example", 1, "192.0.2.1", 60),)))
        data = history.ask(key="192.0.2.1", at_ns=LATER)["data"]
        assert sorted(data["dns_queries"]) == [f"n{one}.example" for one in range(number + 1)]
    history.keep(fact_of(3, ended=BEGIN + 3), full=True)
    assert len(history.ask(key="192.0.2.1", at_ns=LATER)["data"]["dns_queries"]) == 5
    assert (history.path / "0000000001.segment").exists(), "a lookup keeps no segment from being finished"


def test_answers_that_the_image_did_not_hold_are_none(history):
    """The relations of an answer that admission had rejected are not found."""
    history.keep(fact_of(admitted=False))
    assert history.ask(key="a.example", at_ns=LATER)["error"] == "data_not_found"


def test_a_lookup_opens_the_segments_that_can_matter(three, monkeypatch):
    """The times of all full segments are read once. Beyond a number only those that a lookup needs are opened anew."""
    history, paths = three
    monkeypatch.setattr(segments_module, "MOST_OPEN", 1)
    opened = []

    def note(path, *args, **others):
        opened.append(path)
        return open_reader(path, *args, **others)

    monkeypatch.setattr(segment_readers, "open_reader", note)
    assert history.ask(key="n1.example", at_ns=BEGIN + HOUR)["ok"]
    assert {path for path in opened if path.suffix == ".segment"} == {*paths}
    opened.clear()
    data = history.ask(key="n2.example", at_ns=BEGIN + 2 * HOUR)["data"]
    assert (data["dns_root"], data["history"]) == ("n2.example", True)
    assert not {path for path in opened if path.suffix == ".segment"} - {paths[1], paths[2]}
    opened.clear()
    assert history.ask(key="n0.example", at_ns=BEGIN)["ok"]
    assert not {path for path in opened if path.suffix == ".segment"} - {paths[0]}


def test_the_time_of_a_lookup_begins_before_the_segments_are_opened(three):
    """Once it is over no further segment is opened, and `history` is false; the next lookup goes on."""
    history, _ = three
    times = itertools.count()
    reply = history.ask(key="n1.example", at_ns=BEGIN + HOUR, monotonic=lambda: next(times) / 5)
    assert (reply["error"], reply["history"], len(history.segments._full)) == ("data_not_found", False, 1)
    assert history.ask(key="n1.example", at_ns=BEGIN + HOUR)["data"]["history"] is True


def test_a_segment_that_is_finished_delays_a_lookup_shortly(three, monkeypatch, capsys):
    """A lookup waits for its lock within the time of a lookup, and answers without it: `history` is false there."""
    history, _ = three
    history.keep(fact_of(3, ended=BEGIN + 3 * HOUR), until=BEGIN + 4 * HOUR)
    [path] = history.path.glob("*.open")
    waits, connect = [], sqlite3.connect
    with locked(path):
        monkeypatch.setattr(
            sqlite3, "connect", lambda *args, **others: waits.append(others["timeout"]) or connect(*args, **others)
        )
        reply = history.ask(key="a.example", at_ns=BEGIN + 3 * HOUR + SECOND)
        assert (reply["error"], reply["history"]) == ("data_not_found", False)
        assert history.ask(key="n0.example", at_ns=BEGIN)["data"]["history"] is True
    assert max(waits) < reading.PATIENCE
    assert "history_not_read" in capsys.readouterr().out
    assert history.ask(key="a.example", at_ns=BEGIN + 3 * HOUR + SECOND)["data"]["history"] is True


def test_the_index_of_a_segment_is_made_in_parts(history, monkeypatch):
    """The memory to finish a segment does not grow with the relations of all its answers."""
    parts, insert = [], closing_module.insert
    monkeypatch.setattr(closing_module, "_AT_ONCE", 4)

    def note(database, table, added):
        parts.extend([len(added)] if table == "related" else [])
        insert(database, table, added)

    monkeypatch.setattr(closing_module, "insert", note)
    facts = [fact_of(one, relations=((f"n{one}.example", 1, "192.0.2.1", 60),)) for one in range(5)]
    history.keep(*facts, full=True)
    assert parts == [4, 4, 2]
    data = history.ask(key="192.0.2.1", at_ns=LATER)["data"]
    assert (len(data["dns_queries"]), data["history"]) == (5, True)


def test_an_open_segment_is_read_before_a_lookup(history):
    """After a start the first lookup need not read what an open segment holds; it reads what was added since."""
    history.keep(fact_of())
    history.segments.learn(lambda: True)
    assert not history.segments._indexes
    history.segments.learn(lambda: False)
    [index] = history.segments._indexes.values()
    assert sum(len([*index.given(answer)]) for answer in index.answers) == 1
    history.keep(fact_of(1, relations=(("c.example", 1, "192.0.2.7", 60),)))
    for key, address in (("a.example", "192.0.2.1"), ("c.example", "192.0.2.7")):
        assert history.ask(key=key, at_ns=LATER)["data"]["ip_addresses"] == [address]


def test_the_times_of_segments_are_learned_before_a_lookup(three, monkeypatch):
    """The server reads them while it waits, some at once, and tries each segment once."""
    history, paths = three
    paths[2].write_bytes(b"x" * 8192)
    times = itertools.count()
    history.segments.learn(lambda: next(times) > 0)
    assert {*history.segments._full} == {paths[0].name}
    for _ in range(3):
        history.segments.learn(lambda: False)
    assert ({*history.segments._full}, history.segments.unreadable) == ({path.name for path in paths[:2]}, 1)
    assert not any(one.is_open for one in history.segments._full.values())
    assert history.ask(key="n1.example", at_ns=BEGIN + HOUR)["data"]["history"] is True


NOT_FORWARDED = encode_request("get", key="a.example", at_ns=LATER)
HOSTILE = {
    "nothing": b"",
    "no MessagePack": b"\xc1",
    "no request": msgpack.packb({"v": 1, "op": "drop", "past": {"grace": 1, "history": 1}}),
    "another operation": forwarded("stats"),
    "not forwarded": NOT_FORWARDED,
    "no time": forwarded(key="a.example"),
    "wrong bounds": msgpack.packb({**msgpack.unpackb(NOT_FORWARDED), "past": {"grace": -1, "history": "x"}}),
    "infinite bounds": msgpack.packb({**msgpack.unpackb(NOT_FORWARDED), "past": {"grace": 1e300, "history": 1}}),
    "SQL": forwarded(key="'; DROP TABLE texts; --", at_ns=LATER),
    "many without a time": forwarded("trail_many", connections=[{"address": "192.0.2.1"}]),
    "a far time": forwarded(key="a.example", at_ns=(1 << 62) - 1),
    "before all time": forwarded(key="a.example", at_ns=-(1 << 62)),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_any_bytes_get_a_reply(history, body):
    """Requests of strangers are refused, or find nothing."""
    history.keep(fact_of())
    reply = msgpack.unpackb(answer_past(body, history.segments))
    assert (reply["ok"], reply["source"]) == (False, "history")
    assert history.ask(key="a.example", at_ns=LATER)["ok"]


@contextmanager
def serving(folder, make_bus=ZmqBus):
    """Serve the history of a folder; yields the server and a requester."""
    address = history_address(lookups_address(folder))
    with closing(PastServer(make_bus, address, folder / "history")) as server, open_bus() as bus:
        yield server, bus.requester(address)


def test_the_socket_answers_the_cache(folder, history):
    """A request at the socket is answered while facts are stored."""
    history.keep(fact_of())
    with serving(folder) as (server, requester):
        for number in range(1, 20):
            history.keep(fact_of(number))
            reply = msgpack.unpackb(requester.request(forwarded(key="a.example", at_ns=LATER), 10))
            assert reply["data"]["dns_root"] == "a.example"
        assert server.counters == {"answered": 19, "refused": 0, "unreadable": 0}


def test_the_socket_answers_no_other_user(folder, history, monkeypatch):
    """Only root and the users of dnstrail are answered: others ask the cache, which bounds them."""
    history.keep(fact_of())
    monkeypatch.setattr(module, "service_ids", lambda: frozenset({os.geteuid() + 1}))
    with serving(folder) as (server, requester):
        reply = msgpack.unpackb(requester.request(forwarded(key="a.example", at_ns=LATER), 10))
        assert (reply["error"], server.counters["refused"]) == ("bad_request", 1)


def test_a_fault_of_the_thread_ends_the_worker(folder, history, monkeypatch):
    """A fault of dnstrail is raised in the worker, and is no silence."""
    history.keep(fact_of())
    raised = threading.Event()

    def fails(*_):
        raised.set()
        raise ZeroDivisionError

    monkeypatch.setattr(module, "answer_past", fails)
    with serving(folder) as (server, requester):
        assert requester.send(forwarded(key="a.example", at_ns=LATER))
        assert raised.wait(10)
        with pytest.raises(ZeroDivisionError):
            wait_until(server.check, "the fault")


def test_an_address_that_is_served_is_refused(folder):
    """A second history of one run-dir does not begin."""
    with serving(folder), pytest.raises(BusError):
        PastServer(ZmqBus, history_address(lookups_address(folder)), folder / "history")


def test_what_is_forgotten_is_not_answered_from_an_open_file(folder):
    """A lookup of the past reads a segment anew once it was replaced, and its reader does not hold the old file."""
    history = folder / "history"
    with closing(FactStore(history, FakeClock(wall=BEGIN / SECOND))) as store, closing(Segments(history)) as segments:
        for number, name in enumerate(("a.example", "kept.example")):
            store.add(fact_of(number, name=name, relations=((name, 1, "192.0.2.1", 60),)))
        store.commit(progress_of(1, LATER))
        store._close_segment()
        finish(history / "0000000001.open")
        store._path = None

        def names():
            reply = msgpack.unpackb(answer_past(forwarded(key="192.0.2.1", at_ns=LATER), segments))
            return sorted(reply["data"]["dns_queries"]) if reply["ok"] else []

        assert names() == ["a.example", "kept.example"]
        request = ask_to_forget(history, subject_of("a.example"))
        wait_until(lambda: (store._clock.advance(1), store.step(), not request.exists())[2], "the end of the request")
        segments.close_replaced()
        held = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        assert not [path for path in held if "deleted" in path.name and "segment" in path.name]
        assert names() == ["kept.example"]
