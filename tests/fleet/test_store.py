"""The store merges rows: entries may come twice and in any order, and no host takes the room of others.

Tests of dnstrail_fleet.store.store, dnstrail_fleet.store.schema, dnstrail_fleet.files, dnstrail_fleet.clickhouse.store.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.fleet import NOON, TODAY, entries, entry, received, row
from dnstrail.errors import SettingsError
from dnstrail_fleet.files import open_file
from dnstrail_fleet.log.contract import StreamLag
from dnstrail_fleet.row import DAY, FleetEntry
from dnstrail_fleet.store import store as module
from dnstrail_fleet.store.contract import RowStore
from dnstrail_fleet.store.schema import KIND, NAME, VERSIONS
from dnstrail_fleet.store.store import FleetStore, ReceivedEntry
from live.fleet_rows import SqliteRows

TOTALS = """
    SELECT day, 0, host, sum(count), count(*) FROM rows GROUP BY day, host
    UNION ALL SELECT day, 1, question, sum(count), count(*) FROM rows GROUP BY day, question
    UNION ALL SELECT day, 2, target, sum(count), count(*) FROM rows WHERE type IN (1, 28) GROUP BY day, target
    ORDER BY 1, 2, 3"""
EARLIER = """
    DROP TRIGGER row_added; DROP TRIGGER row_counted; DROP TABLE totals; ALTER TABLE names DROP COLUMN day;
    ALTER TABLE texts DROP COLUMN week; ALTER TABLE askers DROP COLUMN week; PRAGMA user_version = 2"""


def write(kept: Any, *parts: Iterable[ReceivedEntry], **settings: int) -> RowStore:
    """Write parts of entries, each at once, and return the closed store."""
    with closing(kept.open(**settings)) as store:
        for part in parts:
            store.write(part, {}, NOON)
    return store


def merged(sent: list[FleetEntry]) -> list[tuple[object, ...]]:
    """Return the rows that a reader of the design expects: minimum and maximum by key."""
    found: dict[tuple[object, ...], list[int]] = {}
    for one in sent:
        for asker in one.askers:
            for each in asker.rows:
                relation = each.question, each.owner or each.question, each.type, each.target
                key = each.day, *relation, one.host, asker.program, asker.container, asker.image
                begin = each.day * DAY
                values = [each.first - begin, each.last - begin, each.end - begin, each.count, each.gaps, each.doubted]
                values.append(each.used - begin if each.used else -1)
                before = found.setdefault(key, values)
                found[key] = [min(before[0], values[0]), *map(max, before[1:], values[1:])]
    return sorted((*key, *values) for key, values in found.items())


@given(st.lists(entries, max_size=6), st.data())
def test_entries_twice_and_in_any_order_give_the_same_rows(
    make_kept: Callable[[Path], Any], sent: list[FleetEntry], data: st.DataObject
) -> None:
    """Whatever the order, the parts and the repetitions, the rows are the minimum and maximum of all."""
    again = data.draw(st.permutations([*sent, *data.draw(st.lists(st.sampled_from(sent)))] if sent else sent))
    cut = data.draw(st.integers(0, len(again)))
    with TemporaryDirectory() as folder:
        kept = make_kept(Path(folder))
        write(kept, map(received, again[:cut]), map(received, again[cut:]))
        rows = merged(sent)
        assert kept.rows() == rows
        with closing(kept.reader()) as reader:
            for what in ("hosts", "names"):  # private addresses have their hosts
                found = reader.top(what, 999, NOON, lambda: False)
                assert sorted(tuple(one) for one in found) == counted(rows, what)
            assert sorted(name for name, _, _ in reader.new(0, 999)) == sorted({one[1] for one in rows})


def counted(rows: list[tuple[Any, ...]], what: str) -> list[tuple[object, ...]]:
    """Return (name, answers, relations, hosts, None) of the newest day of rows until today."""
    place = {"hosts": 5, "names": 1}[what]
    day = max((one[0] for one in rows if one[0] <= TODAY), default=0)
    found: dict[str, list[tuple[Any, ...]]] = {}
    for one in rows:
        if one[0] == day:
            found.setdefault(one[place], []).append(one)
    return sorted(
        (name, sum(one[12] for one in some), len(some), 0 if what == "hosts" else len({one[5] for one in some}), None)
        for name, some in found.items()
    )


def test_two_stores_write_all_rows(kept: Any) -> None:
    """Two processes write at once; each finds what the other added."""
    sent = [entry(f"web{number % 2}", row(f"n{number}.example")) for number in range(8)]
    with closing(kept.open()) as one, closing(kept.open()) as other:
        for number, each in enumerate(sent):
            (one, other)[number % 2].write([received(each)], {}, NOON)
            (other, one)[number % 2].write([received(each)], {}, NOON)
    assert kept.rows() == merged(sent)


def test_a_failed_write_stores_nothing_and_can_be_repeated(kept: Any) -> None:
    """Ids of texts that were taken back are not used after a failure."""
    with closing(kept.open()) as store:
        store.write([], {}, NOON)
        with pytest.raises(RuntimeError):
            store.write((received(entry("web1", row())) if one else fail() for one in (True, False)), {}, NOON)
        assert kept.rows() == []
        store.write([received(entry("web1", row("other.example"), row()))], {}, NOON)
    assert [one[1] for one in kept.rows()] == ["other.example", "shop.example"]
    assert store.counters == {"entries": 1, "rows": 2, "left_out": 0, "too_old": 0}


def fail() -> ReceivedEntry:
    """Raise an error while entries are written."""
    raise RuntimeError


def test_a_clock_that_is_off_is_corrected(kept: Any) -> None:
    """The times of a host whose clock is an hour behind are those of the engine; a second of delay is no skew."""
    behind, late = [entry("web1", row(used=NOON + used)) for used in (9, 5)], entry("web2", row())
    write(kept, [*(received(one, late=3_600_000) for one in behind), received(late, late=900)])
    times = {one[5]: (one[9], one[15]) for one in kept.rows()}
    assert times == {"web1": (NOON % DAY + 3600, NOON % DAY + 3609), "web2": (NOON % DAY, -1)}
    assert [one[:3] for one in kept.hosts()] == [
        ("web1", NOON * 1000 + 3_600_000, 3_600_000),
        ("web2", NOON * 1000 + 900, 900),
    ]


def test_a_host_has_its_share_of_a_day(kept: Any) -> None:
    """Beyond its share a host's further rows are left out and counted; known rows and other hosts are unaffected."""
    many = entry("loud", *(row(f"n{number}.example") for number in range(5)))
    more = entry("loud", row("n0.example", count=2), row("n9.example"))
    write(kept, [received(many)], [received(more), received(entry("web1", row()))], most_of_host=3)
    assert [(one[5], one[1], one[12]) for one in kept.rows()] == [
        ("loud", "n0.example", 2),
        ("loud", "n1.example", 1),
        ("loud", "n2.example", 1),
        ("web1", "shop.example", 1),
    ]
    assert [(one[0], one[7]) for one in kept.hosts()] == [("loud", 3), ("web1", 0)]


def test_what_has_no_room_leaves_nothing_behind(kept: Any) -> None:
    """Rows beyond the share of a host add no text and no asker; those that are known are merged, and others too."""
    write(kept, [received(entry("loud", row()))], most_of_host=1)
    further = entry("loud", *(row(f"n{number}.example") for number in range(9)), row(count=3), program="/tmp/x")
    known = entry("loud", row(count=2), row("shop.example", "192.0.2.99"))
    write(kept, [received(further), received(known)], most_of_host=1)
    if isinstance(kept, SqliteRows):
        with closing(sqlite3.connect(kept.folder / NAME)) as database:
            assert database.execute("SELECT count(*) FROM texts").fetchone() == (2,)
            assert database.execute("SELECT program FROM askers").fetchall() == [("/usr/bin/curl",)]
    assert [one[7] for one in kept.hosts()] == [11]
    assert [one[12] for one in kept.rows()] == [2]


def test_a_host_has_its_share_of_all_days(kept: Any) -> None:
    """A host that fills many days at once has a bound over all of them, also over several entries."""
    parts = [[received(entry("loud", *(row(at=NOON - day * DAY) for day in days)))] for days in (range(3), range(9))]
    write(kept, *parts, [received(entry("web1", row()))], most_in_all=4)
    assert sorted((one[5], TODAY - one[0]) for one in kept.rows()) == [
        *(("loud", day) for day in range(4)),
        ("web1", 0),
    ]


def test_a_host_cannot_name_the_age_of_its_rows(kept: Any) -> None:
    """Rows of 1970 are too old by the clock of the store, whatever time the host names in the engine."""
    store = write(kept, [received(entry("evil", row(at=60), sent=60)), received(entry("web1", row()))])
    assert [one[5] for one in kept.rows()] == ["web1"]
    assert store.counters["too_old"] == 1
    with closing(kept.reader()) as reader:
        assert reader.first_day(None) == TODAY


def test_old_days_are_removed_with_their_texts(kept: Any) -> None:
    """Days beyond the retention go, with texts and names that no other row of their week has."""
    old = NOON - 10 * DAY
    with closing(kept.open(days=1)) as store:
        for at in (old, old + DAY, NOON):
            store.write([received(entry("web1", row(f"day{at}.example", at=at), sent=at))], {}, at)
        store.write([received(entry("web1", *(row(at=day * DAY) for day in range(1000))))], {}, NOON)
        assert store.counters["too_old"] == 1000
        counts = [sum(store.remove_old(NOON)) for _ in range(2)]
        store.write([received(entry("web1", row("new.example")))], {}, NOON)
    assert counts == [2, 0]
    with closing(kept.reader()) as reader:
        assert {name for name, _, _ in reader.new(0, 10)} == {f"day{NOON}.example", "new.example"}
        assert reader.first_day(None) == TODAY
    if isinstance(kept, SqliteRows):
        with closing(sqlite3.connect(kept.folder / NAME)) as database:
            texts = {text for (text,) in database.execute("SELECT text FROM texts")}
        assert texts == {f"day{NOON}.example", "new.example", "203.0.113.7"}


def test_a_removal_has_bounded_steps_between_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step removes a few rows. What is written meanwhile stays, also with texts that were to be removed."""
    monkeypatch.setattr(module, "_STEP", 5)
    kept, old = SqliteRows(tmp_path), NOON - 20 * DAY
    sent = [entry(f"web{number}", row(f"n{number}.example", at=NOON), program=f"/bin/{number}") for number in range(60)]
    with closing(kept.open(days=2)) as store:
        for number in range(60):
            one = row(f"n{number}.example", f"203.0.113.{number}", at=old + number % 2 * DAY)
            store.write([received(entry("web1", one, program=f"/bin/{number}", sent=old + DAY))], {}, old)
        steps, counts = store.remove_old(NOON), list[int]()
        for one in sent:
            counts.append(next(steps))
            store.write([received(one)], {}, NOON)
        counts += steps
        assert (sum(counts), counts.count(5)) == (60, 12)
        assert [*store.remove_old(NOON)] == []
    assert kept.rows() == merged(sent)
    with closing(sqlite3.connect(tmp_path / NAME)) as database:
        texts = [text for (text,) in database.execute("SELECT text FROM texts ORDER BY text")]
        assert texts == sorted({"203.0.113.7", *(f"n{number}.example" for number in range(60))})
        assert database.execute("SELECT count(*) FROM names").fetchone() == (60,)
        assert database.execute("SELECT count(DISTINCT program), count(*) FROM askers").fetchone() == (60, 60)


def test_texts_that_another_process_removed_are_added_again(kept: Any) -> None:
    """A process does not use the id of a text, an asker or a host that another one has removed."""
    old, new = entry("gone", row(at=NOON - 9 * DAY), sent=NOON - 9 * DAY), entry("web1", row("a.example", "192.0.2.1"))
    with closing(kept.open(days=1)) as one, closing(kept.open(days=1)) as other:
        one.write([received(old)], {}, NOON - 9 * DAY)
        assert sum(other.remove_old(NOON)) == 1
        assert kept.hosts() == []
        other.write([received(new)], {}, NOON)
        one.write([received(entry("gone", row()))], {}, NOON)
    assert [(each[5], each[1], each[4]) for each in kept.rows()] == [
        ("web1", "a.example", "192.0.2.1"),
        ("gone", "shop.example", "203.0.113.7"),
    ]


def test_a_name_whose_first_host_is_gone_is_still_known(kept: Any) -> None:
    """It belongs to no host that came later."""
    with closing(kept.open(days=1)) as store:
        for host in ("web1", "gone"):
            one = entry(host, row(f"{host}.example", at=NOON - 9 * DAY), sent=NOON - 9 * DAY)
            store.write([received(one)], {}, NOON - 9 * DAY)
        store.write([received(entry("web1", row("gone.example")))], {}, NOON)
        sum(store.remove_old(NOON))
        store.write([received(entry("web2", row("new.example")))], {}, NOON)
    with closing(kept.reader()) as reader:
        found = {name: (first, host) for name, first, host in reader.new(0, 10)}
    assert found["new.example"] == (NOON, "web2")
    of_kept_rows = NOON, "web1"  # ClickHouse reads the rows that it keeps
    assert found["gone.example"] == ((NOON - 9 * DAY, "") if isinstance(kept, SqliteRows) else of_kept_rows)


def test_losses_of_the_engine_count_once(kept: Any) -> None:
    """What the engine trimmed counts once, whoever saw it, and each entry states the losses of its host."""
    with closing(kept.open()) as store:
        store.write([received(entry("web1", behind=2, dropped=3))], {("web1", "form"): 1, ("web9", "form"): 2}, NOON)
        store.note_lag({"web1": StreamLag(5, 7)})
        store.note_lag({"web1": StreamLag(0, 9)})
    with closing(kept.open()) as store:
        store.write([], {("web1", "form"): 1}, NOON)
        store.note_lag({"web1": StreamLag(0, 1)})
    first, second = kept.hosts()
    assert first[:-1] == ("web1", NOON * 1000, 0, 2, 3, 0, 9, 0)
    assert [json.loads(one[-1]) for one in (first, second)] == [{"form": 2}, {"form": 2}]


def test_versions_lead_from_one_to_the_next(tmp_path: Path) -> None:
    """A file of an earlier version gets the steps that it lacks, and keeps its rows; a later version is refused."""
    path = tmp_path / NAME
    write(SqliteRows(tmp_path), [received(entry("web1", row()))])
    further = (*VERSIONS, "CREATE TABLE more (id INTEGER)")
    open_file(path, KIND, further).close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM more").fetchone() == (0,)
    with pytest.raises(SettingsError, match="later version"):
        FleetStore(tmp_path)
    with pytest.raises(SettingsError, match="another file"):
        open_file(path, KIND + 1, further)


@settings(max_examples=settings().max_examples // 5)
@given(st.lists(entries, max_size=6), st.data())
def test_totals_are_those_of_the_rows(sent: list[FleetEntry], data: st.DataObject) -> None:
    """Totals by host, question and address equal the sums of the rows, whatever comes twice and in any order.

    The first rows are in a file of version 2, which has no totals.
    """
    again = data.draw(st.permutations([*sent, *sent]))
    cut = data.draw(st.integers(0, len(again)))
    with TemporaryDirectory() as folder:
        kept = SqliteRows(Path(folder))
        write(kept, map(received, again[:cut]))
        with closing(sqlite3.connect(Path(folder, NAME))) as database:
            database.executescript(EARLIER)
        write(kept, map(received, again[cut:]))
        with closing(sqlite3.connect(Path(folder, NAME))) as database:
            assert database.execute("SELECT * FROM totals").fetchall() == database.execute(TOTALS).fetchall()


def test_totals_are_kept_for_the_newest_day(tmp_path: Path) -> None:
    """The totals of earlier days go, those of a day ahead stay. Without rows of today the last day keeps its own."""

    def days_after(now: int) -> list[int]:
        sum(store.remove_old(now))
        with closing(sqlite3.connect(store.path)) as database:
            return [day for (day,) in database.execute("SELECT DISTINCT day FROM totals")]

    with closing(FleetStore(tmp_path, days=9)) as store:
        store.write([received(entry("web1", *(row(at=NOON + day * DAY) for day in (-2, -1))))], {}, NOON)
        assert days_after(NOON) == [TODAY - 1]
        store.write([received(entry("web1", row(at=NOON + DAY), sent=NOON + DAY))], {}, NOON)
        assert days_after(NOON) == [TODAY - 1, TODAY + 1]
        store.write([received(entry("web1", row()))], {}, NOON)
        assert days_after(NOON) == [TODAY, TODAY + 1]
        assert days_after(NOON + 99 * DAY) == []


def test_rows_of_the_first_version_have_no_connection(tmp_path: Path) -> None:
    """A file without connections is updated, and a row that comes again has one. Its texts go with it."""
    path, first, kept = tmp_path / NAME, row(), SqliteRows(tmp_path)
    with closing(open_file(path, KIND, VERSIONS[:1])) as database:
        database.execute("INSERT INTO texts VALUES (1, ?), (2, ?)", (first.question, first.target))
        database.execute("INSERT INTO askers VALUES (1, '/usr/bin/curl', 'web', 'shop:1')")
        database.execute("INSERT INTO hosts VALUES (1, 'web1', 0, 0, 0, 0, 0, 0, 0)")
        times = NOON % DAY, NOON % DAY, NOON % DAY + 300
        database.execute("INSERT INTO rows VALUES (?, 2, 1, 1, 1, 1, 1, ?, ?, ?, 1, 0, 0)", (TODAY, *times))
    write(kept)
    assert [one[-1] for one in kept.rows()] == [-1]
    write(kept, [received(entry("web1", row(used=NOON + 5)))])
    assert kept.rows() == merged([entry("web1", row(used=NOON + 5))])
    with closing(kept.open()) as store, closing(sqlite3.connect(path)) as database:
        assert sum(store.remove_old(NOON + 120 * DAY)) == 1
        assert not database.execute("SELECT id FROM texts UNION ALL SELECT id FROM askers").fetchall()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that is no database is refused with its name."""
    (tmp_path / NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(SettingsError, match=NAME):
        FleetStore(tmp_path)


def test_days_are_those_of_the_host() -> None:
    """The day of a row is that of its first answer."""
    assert row().day == TODAY
