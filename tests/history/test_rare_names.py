"""The rare names of full segments: one value states what the other tables state.

Tests of dnstrail.history.rare_names, dnstrail.history.contents.
"""

from __future__ import annotations

import random
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.facts import BEGIN, fact_of, facts, progress_of
from builders.log_entries import live
from dnstrail.history import rare_names, segment
from dnstrail.history.closing import finish
from dnstrail.history.database import DamagedFileError, open_reader
from dnstrail.history.fact import Fact
from dnstrail.history.log import segment_entries
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.subjects import subject_of
from dnstrail_history.store.forgetting import ask_to_forget
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock, wait_until

FIRST = "0000000001.segment"
RARE = [f"n{number}.example" for number in range(12)]
STORED = [fact_of(number, ended=BEGIN + number, name=RARE[number % len(RARE)]) for number in range(4 * len(RARE))]
LAST = fact_of(1 << 20, ended=BEGIN + 1000, name="last.example")  # in the next segment


def fill_segments(folder: Path, *parts: list[Fact], most_bytes: int = 1 << 20) -> Path:
    """Store facts in a segment each, of which the last one stays open; return the first."""
    folder.mkdir()
    for number, part in enumerate(parts, 1):
        with closing(segment.OpenSegment(folder / f"{number:010d}.open")) as opened:
            opened.write(part, progress_of(number))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rare_names, "_MOST_BYTES", most_bytes)
        for path in sorted(folder.glob("*.open"))[:-1]:
            finish(path)
    return folder / FIRST


def fill_first(folder: Path, stored: list[Fact], most_bytes: int = 1 << 20) -> Path:
    """Store facts in a full segment, and LAST in the next one; return the first. `most_bytes` are for a transaction."""
    return fill_segments(folder, stored, [LAST], most_bytes=most_bytes)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """Return a full segment with the facts of STORED."""
    return fill_first(tmp_path / "history", STORED)


def unwarned(text: str) -> None:
    raise AssertionError(text)


def values_in(path: Path) -> dict[str, bytes]:
    """Return the values of the rare names of a segment, not compressed."""
    with closing(open_reader(path, segment.SCHEMA, final=True)) as database:
        found = dict(database.execute("SELECT name, packed FROM rare_names WHERE name > 0"))
        names = dict(database.execute("SELECT id, text FROM texts"))
    dictionary = dictionary_in(path)
    return {names[name]: zlib.decompressobj(13, dictionary).decompress(packed) for name, packed in found.items()}


def dictionary_in(path: Path) -> bytes:
    """Return the dictionary of the values of a segment."""
    with closing(open_reader(path, segment.SCHEMA, final=True)) as database:
        [found] = database.execute("SELECT packed FROM rare_names WHERE name = 0").fetchone()
    return bytes(found)


def sizes_in(path: Path) -> list[int]:
    """Return the bytes of the dictionary, and of each value, of a segment."""
    with closing(open_reader(path, segment.SCHEMA, final=True)) as database:
        return [len(packed) for [packed] in database.execute("SELECT packed FROM rare_names ORDER BY name")]


def check(folder: Path, stored: Iterable[Fact], name: str) -> None:
    """Check that each way to read a name has what the bus would bring."""
    selection = LogSelection(name=name)
    expected = [entry for entry in map(live, stored) if selection.accepts_question(entry)]
    assert [*HistoryLog(folder, unwarned).read(selection)] == expected
    assert [*HistoryLog(folder, unwarned).backwards(selection)] == expected[::-1]
    for count in (1, 3, 1000):
        assert HistoryLog(folder, unwarned).newest(selection, count) == expected[-count:]


@settings(max_examples=settings().max_examples // 10)
@given(found=st.lists(facts(), min_size=1, max_size=30, unique_by=lambda fact: str(fact.id)))
def test_a_rare_name_has_what_the_bus_brings(tmp_path_factory, found):
    """Whatever transactions contain, those of a name are the same by its value, by the tables, and on the bus."""
    folder = tmp_path_factory.mktemp("rare") / "history"
    fill_first(folder, found)
    for name in {fact.values.name for fact in found}:  # some are patterns
        check(folder, [*found, LAST], name)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(segment_entries, "read_rare_name", lambda *_: None)
            check(folder, [*found, LAST], name)


def test_a_random_history_is_read_by_values(tmp_path, monkeypatch):
    """In several segments, rare and frequent names are read as they were stored, also with other conditions."""
    monkeypatch.setattr(segment_entries, "_FIRST", 4)
    monkeypatch.setattr(segment_entries, "_AT_ONCE", 4)
    monkeypatch.setattr(rare_names, "_RARE", 6)
    chosen = random.Random(5)
    names = [chosen.choice(RARE[: chosen.randrange(1, 12)]) for _ in range(200)]
    found = [fact_of(number, ended=BEGIN + number, name=name) for number, name in enumerate(names)]
    fill_segments(tmp_path / "history", *(found[begin : begin + 45] for begin in range(0, len(found), 45)))
    kept = [set(values_in(path)) for path in (tmp_path / "history").glob("*.segment")]
    assert [0 < len(one) < len(RARE) for one in kept] == [True] * 4
    for name in RARE:
        check(tmp_path / "history", found, name)
        timed = LogSelection(name=name, since=BEGIN + 20, until=BEGIN + 150, process="curl")
        expected = [one for one in map(live, found) if timed.accepts_question(one)]
        assert HistoryLog(tmp_path / "history", unwarned).newest(timed, 1000) == expected


def test_nothing_else_is_read_for_a_rare_name(first, monkeypatch):
    """One value suffices: no other table is searched, for a name alone in its segment or beside others."""
    monkeypatch.setattr(segment_entries, "candidates", None)
    for name in RARE:
        [part] = segment_entries.SegmentEntries(first).newest(LogSelection(name=name))
        assert len(part) == 4
    with pytest.raises(DamagedFileError, match="not callable"):
        [*segment_entries.SegmentEntries(first).newest(LogSelection(name="*.example"))]


def test_a_frequent_name_has_no_value(tmp_path):
    """A name with nine transactions is no rare one, one with eight is."""
    names = ["often.example"] * 9 + ["seldom.example"] * 8
    found = [fact_of(number, ended=BEGIN + number, name=name) for number, name in enumerate(names)]
    path = fill_first(tmp_path / "history", found)
    assert set(values_in(path)) == {"seldom.example"}
    for name in ("often.example", "seldom.example"):
        check(path.parent, found, name)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_long_value_is_not_kept(tmp_path, monkeypatch, beyond):
    """A value with the most bytes is kept and read, one with a byte more is not; the tables have the name."""
    length = len(values_in(fill_first(tmp_path / "probe", STORED))[RARE[0]])
    monkeypatch.setattr(rare_names, "_LARGEST", length - beyond)
    path = fill_first(tmp_path / "history", STORED)
    assert (RARE[0] in values_in(path)) == (not beyond)
    check(path.parent, STORED, RARE[0])


def test_values_take_a_bounded_share(tmp_path, monkeypatch):
    """Beyond its bytes a segment keeps no more values; those of the names with the most transactions are kept first."""
    names = [name for number, name in enumerate(RARE) for _ in range(1 + number % 4)] * 2
    found = [fact_of(number, ended=BEGIN + number, name=name) for number, name in enumerate(names)]
    monkeypatch.setattr(rare_names, "_SAMPLES", 1)
    most = sum(sizes_in(fill_first(tmp_path / "whole", found))) // len(found) - 2
    path = fill_first(tmp_path / "history", found, most)
    kept, sizes = set(values_in(path)), sizes_in(path)
    assert set() < kept < set(RARE)
    assert most * len(found) < sum(sizes) <= most * len(found) + max(sizes[1:])  # the last value is beyond them
    assert min(map(names.count, kept)) >= max(map(names.count, set(RARE) - kept))
    for name in RARE:
        check(path.parent, found, name)


CHANGES = {
    "no table": ("DROP TABLE rare_names", True),
    "no dictionary": ("DELETE FROM rare_names WHERE name = 0", True),
    "no value": ("DELETE FROM rare_names WHERE name > 0", True),
    "cut": ("UPDATE rare_names SET packed = substr(packed, 1, length(packed) - 3) WHERE name > 0", False),
    "empty": ("UPDATE rare_names SET packed = x'' WHERE name > 0", False),
    "a number": ("UPDATE rare_names SET packed = 7 WHERE name > 0", False),
    "a text": ("UPDATE rare_names SET packed = 'x'", False),
    "another dictionary": ("UPDATE rare_names SET packed = x'00' WHERE name = 0", False),
    "other bytes": ("UPDATE rare_names SET packed = randomblob(200) WHERE name > 0", False),
    "other values": ("UPDATE rare_names SET packed = changed(packed) WHERE name > 0", False),
}
VALUES = {
    "a bomb": bytes(1 << 24),
    "no message": b"\xc1",
    "a deep message": b"\x91" * 16_000,
    "a number": msgspec.msgpack.encode(7),
    "no rows": msgspec.msgpack.encode([[], []]),
    "rows of other types": msgspec.msgpack.encode([[[b"x"] * 17], [[]] * 7]),
    "a time beyond all": msgspec.msgpack.encode([[[1, 1, 0, 0, -1, 1, 1, 1, *[None] * 5, b"", None, 0, 0]], [[]] * 7]),
    "rows that are missing": msgspec.msgpack.encode([[[1, 99, 0, 0, 5, 1, 99, 99, *[None] * 9]], [[]] * 7]),
}


@pytest.mark.parametrize("change", [*CHANGES, *VALUES])
def test_damage_of_values_costs_one_segment(first, change):
    """Values that are missing are read in the tables; others than a worker stores are damage of their segment."""
    statement, is_whole = CHANGES["other values" if change in VALUES else change]
    with closing(sqlite3.connect(first)) as database, database:
        [dictionary] = database.execute("SELECT packed FROM rare_names WHERE name = 0").fetchone()

        def changed(_: bytes) -> bytes:
            compressor = zlib.compressobj(wbits=13, zdict=dictionary)
            return compressor.compress(VALUES.get(change, b"\x90")) + compressor.flush()

        database.create_function("changed", 1, changed)
        database.execute(statement)
    for name in (*RARE, "last.example"):
        warnings: list[str] = []
        expected = [live(one) for one in STORED if one.values.name == name] if is_whole else []
        log = HistoryLog(first.parent, warnings.append)
        found = log.newest(LogSelection(name=name), 1000)
        assert (found if name in RARE else found[:-1]) == expected
        assert [FIRST in one for one in warnings] == ([] if is_whole or name not in RARE else [True])
        assert name in RARE or len(found) == 1
    assert [*HistoryLog(first.parent, unwarned).read(LogSelection(process="curl", since=BEGIN))][:-1] == [
        *map(live, STORED)
    ]


def test_a_value_of_another_name_is_not_shown(first):
    """Where a value states another name, this name is not what was asked for."""
    with closing(sqlite3.connect(first)) as database, database:
        database.execute("UPDATE rare_names SET packed = (SELECT packed FROM rare_names WHERE name = 2) WHERE name = 3")
        [text] = database.execute("SELECT text FROM texts WHERE id = 3").fetchone()
    assert HistoryLog(first.parent, unwarned).newest(LogSelection(name=text), 10) == []


def test_values_go_with_what_is_forgotten(first, monkeypatch):
    """After a request to forget, neither a value nor the dictionary contains what it named; the others are kept."""
    monkeypatch.setattr(rare_names, "_MOST_BYTES", 1 << 20)
    folder, clock = first.parent, FakeClock(wall=BEGIN / 1e9)
    forgotten = RARE[3].encode()
    assert any(forgotten in value for value in [*values_in(first).values(), dictionary_in(first)])
    with closing(FactStore(folder, clock, days=1 << 40)) as store:
        request = ask_to_forget(folder, subject_of(RARE[3]))
        wait_until(lambda: clock.advance(1) or store.step() or not request.exists(), "the end of the request")
    values = values_in(first)
    assert set(values) == {*RARE} - {RARE[3]}
    assert not any(forgotten in value for value in [*values.values(), dictionary_in(first)])
    for name in RARE:
        check(folder, [fact for fact in STORED if fact.values.name != RARE[3]], name)
