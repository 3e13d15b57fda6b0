"""The log of a folder: what it selects, and what it does while the folder changes or is damaged.

Tests of dnstrail.history.log.candidates, dnstrail.history.log.segment_entries, dnstrail.history.log.entries,
dnstrail.history.log.selection.
"""

from __future__ import annotations

import gc
import random
import shutil
import sqlite3
import sys
from contextlib import closing
from functools import partial
from ipaddress import ip_network
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.facts import BEGIN, SECOND, fact_of, facts, locked, progress_of, stage_of, stages
from builders.log_entries import fill, live, live_stage
from dnstrail.captured import Process
from dnstrail.events import NET_CONNECTION, OUTCOMES
from dnstrail.history import contents, rare_names
from dnstrail.history import segment as segments
from dnstrail.history.database import LOCKED, DamagedFileError, open_reader
from dnstrail.history.fact import Fact
from dnstrail.history.log import candidates as narrowing
from dnstrail.history.log import segment_entries
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.subjects import subject_of
from dnstrail_history.store import store as module
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

SMALL = 40
NAMES = ("shop.example", "www.shop.example", "shop.example.net", "a[b]c.example", "\\042.example", ".", "xexample")
TARGETS = ("192.0.2.1", "192.0.2.77", "192.0.20.1", "19.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "2001:db80::1", "::1")
PATTERNS = (*NAMES, "*.example", "*example", "shop*", "*", "?", "*shop*", "[!s]*", "a[[]b]c.example", "SHOP.example.")
NETWORKS = ("192.0.2.1", "192.0.2.0/24", "192.0.0.0/19", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1", "::/0", "::/127")
PROCESSES = (
    Process(
        7,
        "curl",
        "/usr/bin/curl",
        container_id="c0ffee",
        container_name="web-1",
        container_labels=(("app", "web"), ("io.x/team", "shop")),
    ),
    Process(70, "7", unit="ssh.service", slice="system.slice"),
    Process(
        72,
        "7",
        container_id="alice/c0ffee",
        container_name="alice/web-1",
        container_image="shop:1",
        container_labels=(("app", "web"),),
    ),
    Process(73, "7", container_id="deadbeef", container_name="shop-1", container_image="shop:1"),
    Process(71, "7", unit="alice/ssh.service", slice="alice/app.slice"),
    None,
)
FACTS = 3 * SMALL + 13


@pytest.fixture
def small(monkeypatch) -> None:
    """Make segments of few transactions, and read few at once."""
    monkeypatch.setattr(segments, "MOST_TRANSACTIONS", SMALL)
    monkeypatch.setattr(module, "MOST_TRANSACTIONS", SMALL)
    monkeypatch.setattr(segment_entries, "_AT_ONCE", 16)
    monkeypatch.setattr(segment_entries, "_FIRST", 4)
    monkeypatch.setattr(contents, "_MOST_KEPT", 3)


def any_fact(number: int, chosen: random.Random) -> Fact:
    name = chosen.choice(NAMES)
    relations = ((name, 1, chosen.choice(TARGETS), 60), (name, 5, chosen.choice(NAMES), 5))[: chosen.randrange(3)]
    return fact_of(
        number,
        ended=BEGIN + number * SECOND,
        process=chosen.choice(PROCESSES),
        name=name,
        relations=relations,
        hop=chosen.randrange(3),
        outcome=chosen.randrange(len(OUTCOMES)),
        waited=chosen.choice([None, 0, 20_000_000, 30 * SECOND]),
    )


_CHOSEN = random.Random(27)
STORED = [any_fact(number, _CHOSEN) for number in range(FACTS)]


@pytest.fixture(scope="module")
def varied(tmp_path_factory) -> Path:
    """Return a folder with STORED in three full segments and an open one."""
    folder = tmp_path_factory.mktemp("log") / "history"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "MOST_TRANSACTIONS", SMALL)
        patched.setattr(module, "MOST_TRANSACTIONS", SMALL)
        patched.setattr(rare_names, "_MOST_BYTES", 1 << 10)  # a small segment keeps some, too
        fill(folder, STORED, 3)
    assert sorted(path.suffix for path in folder.glob("0*")) == [*[".keys"] * 3, ".open", *[".segment"] * 3]
    return folder


def unwarned(text: str) -> None:
    raise AssertionError(text)


selections = st.builds(
    LogSelection,
    since=st.none() | st.integers(0, FACTS).map(lambda number: BEGIN + number * SECOND),
    until=st.none() | st.integers(0, FACTS).map(lambda number: BEGIN + number * SECOND),
    name=st.none() | st.sampled_from(PATTERNS) | st.text("sho[]*?!.", max_size=5),
    process=st.none() | st.sampled_from(["7", "70", "curl", "c*", "*", "nobody"]),
    container=st.none()
    | st.sampled_from(["c0", "web-?", "*", "db", "alice/*", "alice/c0", "shop:*", "app=w*", "io.x/team=shop"])
    | st.sampled_from(["alice/app=web", "app=", "web"]),
    unit=st.none() | st.sampled_from(["ssh.service", "*.slice", "alice/*", "*/ssh.service", "db"]),
    outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=3).map(tuple),
    slower=st.none() | st.sampled_from([0, 20_000_000, SECOND]),
    network=st.none() | st.sampled_from(NETWORKS).map(ip_network),
)


@given(selection=selections, most=st.sampled_from([0, 2, 1000]), few=st.sampled_from([0, 5000]))
def test_the_past_selects_as_the_present(varied, selection, most, few):
    """Whatever is selected, the store has the entries that the bus would bring, in order, by index or not."""
    accepts = selection.accepts_question
    expected = [entry for entry in map(live, STORED) if accepts(entry)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(narrowing, "_MOST_IDS", most)
        patched.setattr(narrowing, "_FEW", few)
        patched.setattr(segment_entries, "_AT_ONCE", 16)
        patched.setattr(segment_entries, "_FIRST", 4)
        assert [*HistoryLog(varied, unwarned).read(selection)] == expected
        assert HistoryLog(varied, unwarned).newest(selection, 7) == expected[-7:]


@settings(max_examples=settings().max_examples // 10)
@given(found=st.lists(facts(), max_size=30, unique_by=lambda fact: str(fact.id)))
def test_an_entry_states_what_the_bus_states(tmp_path_factory, found):
    """Whatever a fact contains, its entry from the store is its entry from the bus."""
    folder = tmp_path_factory.mktemp("any") / "history"
    fill(folder, found)
    accepts = LogSelection().accepts_question
    assert [*HistoryLog(folder, unwarned).read(LogSelection())] == [one for one in map(live, found) if accepts(one)]


@settings(max_examples=settings().max_examples // 10)
@given(found=st.lists(stages(), max_size=30, unique_by=lambda fact: fact.values.id), selection=selections)
def test_the_last_stage_of_a_connection_is_its_entry(tmp_path_factory, found, selection):
    """Whatever stages are stored, the last ones that fit are the entries that the bus would bring."""
    folder = tmp_path_factory.mktemp("stages") / "history"
    fill(folder, [*found, fact_of(3)])
    for chosen in (LogSelection(), selection):
        expected = [one for one in map(live_stage, found) if chosen.accepts(one)]
        assert [*HistoryLog(folder, unwarned, NET_CONNECTION).read(chosen)] == expected
        assert HistoryLog(folder, unwarned, NET_CONNECTION).newest(chosen, 2) == expected[-2:]


def test_the_connections_of_full_segments(tmp_path, small):
    """Connections of several segments are read in order, by time, and those that failed are among them."""
    folder = tmp_path / "history"
    kinds = ({"stage": "opened"}, {"stage": "end", "why": "closed"}, {"stage": "result", "connected": False})
    stored = [stage_of(number, time=BEGIN + number * SECOND, **kinds[number % 3]) for number in range(3 * SMALL)]
    fill(folder, stored, 2)
    entries = [live_stage(one) for one in stored if one.stage != "opened"]
    log = HistoryLog(folder, unwarned, NET_CONNECTION)
    assert [*log.read(LogSelection())] == entries
    assert [*log.read(LogSelection())] == []
    later = LogSelection(since=BEGIN + (2 * SMALL + 1) * SECOND)
    expected = [entry for entry in entries if later.accepts(entry)]
    assert [*HistoryLog(folder, unwarned, NET_CONNECTION).read(later)] == expected != []


def test_a_later_reading_continues(tmp_path, small):
    """A second reading has what was stored after the first, also after a reading of the newest entries alone."""
    folder = tmp_path / "history"
    with closing(FactStore(folder, FakeClock())) as store:
        logs = [HistoryLog(folder, unwarned) for _ in range(3)]
        for number in range(50):
            assert store.add(fact_of(number))
        assert store.commit(progress_of(1))
        assert len([*logs[0].read(LogSelection())]) == 50
        assert [entry.id for entry in logs[1].newest(LogSelection(), 2)] == [
            f"s/net_packet_dns/0/{n}/end" for n in (48, 49)
        ]
        assert logs[2].newest(LogSelection(name="none.example"), 2) == []
        for number in range(50, 100):
            assert store.add(fact_of(number))
        assert store.commit(progress_of(2))
        wait_until(lambda: store.step() or store.counters["finished"] >= 2, "the full segments")
        for log in logs:
            found = [entry.id for entry in log.read(LogSelection())]
            assert found[-50:] == [f"s/net_packet_dns/0/{number}/end" for number in range(50, 100)]
        assert [*logs[0].read(LogSelection())] == []


def test_a_reading_that_waits_does_not_stop_the_writer(tmp_path, small):
    """While a reader stops in a segment, the worker adds to it, finishes it and goes on; nothing is missing."""
    folder = tmp_path / "history"
    with closing(FactStore(folder, FakeClock())) as store:
        for number in range(SMALL - 1):
            assert store.add(fact_of(number))
        assert store.commit(progress_of(1))
        reading = HistoryLog(folder, unwarned).read(LogSelection())
        first = [*islice(reading, 3)]
        for number in range(SMALL - 1, 2 * SMALL + 1):
            assert store.add(fact_of(number))
        assert store.commit(progress_of(2)), store.fault
        wait_until(lambda: store.step() or store.counters["finished"] >= 2, "the full segments")
        found = [entry.id for entry in (*first, *reading)]
    assert found == [f"s/net_packet_dns/0/{number}/end" for number in range(SMALL)]


def test_a_locked_segment_is_named_and_the_others_answer(varied, tmp_path, monkeypatch):
    """A segment that the worker does not finish in time is left out, and a later reading continues with it."""
    monkeypatch.setattr(segment_entries, "open_reader", partial(open_reader, patience=0.01))
    folder = shutil.copytree(varied, tmp_path / "history")
    [path] = folder.glob("*.open")
    warned: list[str] = []
    history, everything = HistoryLog(folder, warned.append), LogSelection()
    expected = [*HistoryLog(folder, unwarned).read(everything)]
    with locked(path):
        before = [*history.read(everything)]
    assert (before, warned) == (expected[: len(before)], [f"{path}: {LOCKED}"])
    assert 0 < len(before) < len(expected)
    assert [*before, *history.read(everything)] == expected


def test_a_damaged_segment_is_named_and_the_others_answer(varied, tmp_path):
    """Of three segments, one with damage and one that was set aside are each named once; the others answer."""
    folder = tmp_path / "history"
    folder.mkdir()
    for path in varied.glob("0*"):
        (folder / path.name).write_bytes(path.read_bytes())
    second = folder / "0000000002.segment"
    second.write_bytes(second.read_bytes()[:3000] + b"\xff" * 9000)
    (folder / "0000000003.segment").rename(folder / "0000000003.segment.damaged")
    warnings: list[str] = []
    log = HistoryLog(folder, warnings.append)
    accepts = LogSelection().accepts_question
    expected = [live(fact) for fact in STORED[:SMALL] + STORED[3 * SMALL :] if accepts(live(fact))]
    assert [*log.read(LogSelection())] == expected
    assert log.newest(LogSelection(), FACTS) == expected
    assert [name in "".join(warnings) for name in ("2.segment", "3.segment.damaged")] == [True, True]
    assert len(warnings) == 2


def test_a_link_in_the_place_of_a_segment_is_named(varied, tmp_path):
    """A link is left out, wherever it leads, as by `seen` and `new`; the others answer."""
    folder = shutil.copytree(varied, tmp_path / "history")
    expected = [*HistoryLog(folder, unwarned).read(LogSelection())]
    links = folder / "0000000100.segment", folder / "0000000101.segment"
    for link, target in zip(links, ("0000000001.segment", "none"), strict=True):
        link.symlink_to(target)
    warned: list[str] = []
    assert [*HistoryLog(folder, warned.append).read(LogSelection())] == expected
    assert warned == [f"{link}: it is no regular file, and left out" for link in links]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE endings SET outcome = 99",
        "UPDATE paths SET source = x'01'",
        "UPDATE transactions SET name = 12345678",
        "UPDATE transactions SET ttls = 'x' WHERE answer IS NOT NULL",
        "UPDATE answers SET relations = x'93c0c0c0'",
        "UPDATE paths SET hop = 'x'",
        "UPDATE transactions SET ended = 'x'",
    ],
)
def test_a_segment_with_foreign_values_is_named(tmp_path, statement):
    """A segment that is sound for SQLite, but holds what no worker stores, is named as damaged, and raises nothing."""
    folder = tmp_path / "history"
    fill(folder, map(fact_of, range(3)))
    [path] = folder.glob("*.open")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)
    warnings: list[str] = []
    assert [*HistoryLog(folder, warnings.append).read(LogSelection())] == []
    assert len(warnings) == 1
    assert path.name in warnings[0]


def fill_with_names(folder):
    """Store a fact of each of 1,000 names, and return these."""
    names = [f"n{number}.example" for number in range(1000)]
    fill(folder, [fact_of(one, name=name, relations=((name, 1, name, 60),)) for one, name in enumerate(names)])
    return names


def test_a_reading_keeps_few_rows_at_a_time(tmp_path, monkeypatch):
    """A long segment is read with as little memory as a short one."""
    monkeypatch.setattr(segment_entries, "_FIRST", 16)
    monkeypatch.setattr(contents, "_MOST_KEPT", 50)
    names = fill_with_names(tmp_path)
    assert sum(1 for _ in HistoryLog(tmp_path, print).backwards(LogSelection())) == len(names)
    before, most = sys.getallocatedblocks(), 0
    for _ in HistoryLog(tmp_path, print).backwards(LogSelection()):
        most = max(most, sys.getallocatedblocks() - before)
    assert most < 2 * len(names)


@pytest.mark.parametrize(
    "read",
    [
        lambda log: sum(1 for _ in log.read(LogSelection())),
        lambda log: len(log.newest(LogSelection(), 1000)),
        lambda log: sum(1 for _ in log.backwards(LogSelection())),
    ],
    ids=["read", "newest", "backwards"],
)
def test_a_reading_leaves_nothing_in_memory(tmp_path, read):
    """The texts and relations of a segment leave memory with the end of a reading, before any collection of garbage."""
    names = fill_with_names(tmp_path)
    gc.disable()
    try:
        assert read(HistoryLog(tmp_path, print)) == len(names)  # fills the caches of modules
        before = sys.getallocatedblocks()
        assert read(HistoryLog(tmp_path, print)) == len(names)
        assert sys.getallocatedblocks() - before < len(names)
    finally:
        gc.enable()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("read", ["read", "newest"])
def test_a_segment_from_which_something_is_forgotten_shows_no_wrong_names(tmp_path, read):
    """A slow reader of the open segment leaves out the rest of it, with a warning, once it was written anew."""
    folder, warnings = tmp_path / "history", []
    kept = {number: f"n{number}.example" for number in range(SMALL - 1)}
    stored = [fact_of(number, name=name, relations=((name, 1, "192.0.2.1", 60),)) for number, name in kept.items()]
    fill(folder, stored)
    log = HistoryLog(folder, warnings.append)
    if read == "read":
        entries = log.read(LogSelection())
        found = [next(entries)]
    else:
        [path] = folder.glob("*.open")
        segment = segment_entries.SegmentEntries(path)
        entries = (entry for part in segment.newest(LogSelection()) for _, entry in part)
        found = [next(entries)]
    request = ask_to_forget(folder, subject_of("n3.example"))
    with closing(FactStore(folder, FakeClock(), days=1 << 40)) as store:
        wait_until(lambda: store.step() or not request.exists(), "the request")
    if read == "newest":
        with pytest.raises(DamagedFileError, match="forgotten"):
            found.extend(entries)
    else:
        found += entries
        assert [segment_entries.REWRITTEN in warning for warning in warnings] == [True]
    assert 1 < len(found) < len(stored)
    assert all(entry.name == kept[int(entry.id.split("/")[-2])] for entry in found)
