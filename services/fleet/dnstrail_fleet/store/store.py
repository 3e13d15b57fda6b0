"""The store: rows of all hosts, merged by minimum and maximum, so that an entry may come twice and in any order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from dnstrail.history.database import transaction
from dnstrail_fleet.files import naming_file, open_file
from dnstrail_fleet.log.contract import StreamLag
from dnstrail_fleet.row import DAY, CheckedEntry, FleetRow
from dnstrail_fleet.store.schema import KIND, NAME, VERSIONS

DAYS: Final = 90  #: days after its day -> a row is removed
#: rows of a host on one day -> further ones are left out: `left_out` in `dnstrail fleet hosts`
MOST_OF_HOST: Final = 262_144
#: rows of a host on all days -> as above
MOST_IN_ALL: Final = 4_194_304
_ALL_DAYS: Final = -1  # as a day
_KNOWN: Final = 65_536  # texts and askers whose ids are remembered
_CACHE: Final = 32_768  # KiB for the pages that a transaction changes: without room they are written several times
_MERGE: Final = """
    UPDATE rows SET first = min(first, ?), last = max(last, ?), "end" = max("end", ?), count = max(count, ?),
        gaps = max(gaps, ?), doubted = max(doubted, ?), used = max(used, ?)
    WHERE day = ? AND target = ? AND owner = ? AND type = ? AND question = ? AND host = ? AND asker = ?"""
_ADD: Final = """
    INSERT INTO rows (first, last, "end", count, gaps, doubted, used, day, target, owner, type, question, host, asker)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_NAME: Final = """
    INSERT INTO names (text, first, host, day) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        host = iif(excluded.first < first, excluded.host, host), first = min(first, excluded.first),
        day = max(day, excluded.day)"""
_HEARD: Final = """
    UPDATE hosts SET skew = iif(?1 >= heard, ?2, skew), behind = iif(?1 >= heard, ?3, behind),
        dropped = max(dropped, ?4), heard = max(heard, ?1), left_out = left_out + ?5 WHERE id = ?6"""
_LAG: Final = "UPDATE hosts SET waiting = ?, trimmed = max(trimmed, ?) WHERE id = ?"
_SHARE: Final = "INSERT INTO shares VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows"
_WEEK: Final = 7  # days
_STEP: Final = 8_192  # rows that one step of a removal reads at most
_KEY_OF_ROW: Final = "day, target, owner, type, question, host, asker"
_NEWEST: Final = "SELECT max(?1, ifnull(max(day), 0)), (SELECT min(day) FROM totals) FROM rows WHERE day <= ?2"
_GONE: Final = "SELECT id FROM hosts WHERE heard < ? AND id NOT IN (SELECT host FROM shares)"


class ReceivedEntry(NamedTuple):
    """An entry with its host, and the time of the engine, in ms."""

    host: str
    at: int
    checked: CheckedEntry


class FleetStore:
    """The rows of all hosts in one file. Several processes may write to it.

    `counters` counts `entries` and `rows` that were written, rows that were `left_out` since a host has too many, and
    those that were `too_old` to be kept.
    """

    at_once = 64  # entries
    pause = 0.2  # seconds: a read asks for all streams

    def __init__(
        self, folder: Path, *, days: int = DAYS, most_of_host: int = MOST_OF_HOST, most_in_all: int = MOST_IN_ALL
    ) -> None:
        """Open it, or make it.

        Raises:
            SettingsError: It is damaged, or a later version of dnstrail made it.
            OSError, sqlite3.Error: It cannot be made or opened now.
        """
        self.path = folder / NAME
        self.counters: Counter[str] = Counter(entries=0, rows=0, left_out=0, too_old=0)
        self._days = days
        self._most = most_of_host
        self._most_in_all = most_in_all
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = open_file(self.path, KIND, VERSIONS)
        self._database.execute(f"PRAGMA cache_size=-{_CACHE}")
        self._removals = -1
        self._text = lru_cache(_KNOWN)(self._read_text)
        self._asker = lru_cache(_KNOWN)(self._read_asker)
        self._host = lru_cache(_KNOWN)(self._read_host)

    def __str__(self) -> str:
        return str(self.path)

    def write(self, entries: Iterable[ReceivedEntry], refused: Mapping[tuple[str, str], int], now: float) -> None:
        """Write entries, and how many were refused by host and reason: all of it, or nothing.

        `now` (seconds since the epoch) is the time by which rows are too old: a host may name any other one.

        Raises:
            SettingsError: The file is damaged.
            sqlite3.Error: It cannot be written now.
        """
        counted: Counter[str] = Counter()
        try:
            with naming_file(self.path), transaction(self._database):
                self._note_removals()
                for entry in entries:
                    self._write(entry, self._oldest(now), counted)
                for (host, reason), count in refused.items():
                    self._database.execute(
                        "INSERT INTO refused VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                        (self._host(host), reason, count),
                    )
        except BaseException:
            self._forget_ids()  # some of them were taken back
            raise
        self.counters.update(counted)

    def note_lag(self, lag: Mapping[str, StreamLag]) -> None:
        """Store the state of streams. `trimmed` is the most that one run of a store counted: several count the same.

        Raises:
            SettingsError: The file is damaged.
            sqlite3.Error: It cannot be written now.
        """
        if lag:
            with naming_file(self.path), transaction(self._database):
                self._note_removals()
                for host, one in lag.items():
                    self._database.execute(_LAG, (*one, self._host(host)))

    def remove_old(self, now: float) -> Iterator[int]:
        """Remove the rows that are too old at a time (seconds since the epoch), in steps; yield the number of each.

        The totals of all days before the newest one go, too. Rows may be written between two steps.

        Raises:
            SettingsError: The file is damaged.
            sqlite3.Error: It cannot be written now.
        """
        [first] = self._database.execute("SELECT min(day) FROM rows").fetchone()
        oldest = self._oldest(now)
        newest, with_totals = self._database.execute(_NEWEST, (oldest, int(now) // DAY)).fetchone()
        if with_totals is not None and with_totals < newest:
            for _ in self._remove("totals", "day, kind, id", newest):
                yield 0
        if first is None or first >= oldest:
            return
        with naming_file(self.path), transaction(self._database):
            self._database.execute("DELETE FROM shares WHERE day < ?", (oldest,))
        yield from self._remove("rows", _KEY_OF_ROW, oldest)
        yield from self._sweep("names", "text", "DELETE FROM names", "day < ?", oldest)
        yield from self._sweep("texts", "id", "DELETE FROM texts", "week < ?", oldest // _WEEK)
        yield from self._sweep("askers", "id", "DELETE FROM askers", "week < ?", oldest // _WEEK)
        heard = (int(now - self._days * DAY) * 1000,)
        if gone := [number for (number,) in self._database.execute(_GONE, heard)]:  # another host may get its number
            of_gone = "host IN (SELECT value FROM json_each(?))"
            yield from self._sweep("names", "text", "UPDATE names SET host = NULL", of_gone, json.dumps(gone))
        with naming_file(self.path), transaction(self._database):
            self._database.execute(f"DELETE FROM hosts WHERE id IN ({_GONE})", heard)  # noqa: S608 - text of this file
            self._database.execute("DELETE FROM refused WHERE host NOT IN (SELECT id FROM hosts)")
            self._database.execute("UPDATE removals SET count = count + 1")
        yield 0

    def _remove(self, table: str, key: str, before: int) -> Iterator[int]:
        """Remove the rows of a table before a day, in steps; `key` is its primary key, which begins with the day."""
        find = f"SELECT {key} FROM {table} WHERE day < ? ORDER BY {key} LIMIT 1 OFFSET {_STEP}"  # noqa: S608
        end: tuple[int, ...] | None = ()
        while end is not None:
            with naming_file(self.path), transaction(self._database):
                end = self._database.execute(find, (before,)).fetchone()
                values = end or (before,)
                wanted = f"({key}) < ({', '.join('?' * len(values))})" if end else "day < ?"
                count = self._database.execute(f"DELETE FROM {table} WHERE {wanted}", values).rowcount  # noqa: S608
            yield count

    def _sweep(self, table: str, key: str, change: str, wanted: str, value: int | str) -> Iterator[int]:
        """Remove or change what a condition with a value selects in a table, in steps that remove no row: yield 0."""
        find = f"SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_STEP})"  # noqa: S608
        change = f"{change} WHERE {key} > ? AND {key} <= ? AND {wanted}"
        begin = 0
        while True:
            with naming_file(self.path), transaction(self._database):
                [end] = self._database.execute(find, (begin,)).fetchone()
                if end is None:
                    return
                if self._database.execute(change, (begin, end, value)).rowcount:
                    self._database.execute("UPDATE removals SET count = count + 1")
            begin = end
            yield 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _write(self, entry: ReceivedEntry, oldest: int, counted: Counter[str]) -> None:
        sent, skew = entry.checked
        host = self._host(entry.host)
        shift = entry.checked.shift
        rooms = {_ALL_DAYS: self._room_in_all(host)}
        left_out, added = 0, Counter[int]()
        for asker in sent.askers:
            asked = asker.program, asker.container, asker.image
            for row in asker.rows:
                if row.day < oldest:  # it would be removed at once
                    counted["too_old"] += 1
                    continue
                if row.day not in rooms:
                    rooms[row.day] = self._room(row.day, host)
                has_room = all(added[one] < rooms[one] for one in (row.day, _ALL_DAYS))
                if self._merge(row, host, asked, shift, has_room=has_room, added=added):
                    counted["rows"] += 1
                else:
                    left_out += 1
        del added[_ALL_DAYS]
        self._database.executemany(_SHARE, [(day, host, count) for day, count in added.items()])
        self._database.execute(_HEARD, (entry.at, skew, sent.behind, sent.dropped, left_out, host))
        counted["entries"] += 1
        counted["left_out"] += left_out

    def _merge(
        self, row: FleetRow, host: int, asked: tuple[str, str, str], shift: int, *, has_room: bool, added: Counter[int]
    ) -> bool:
        """Merge a row into the stored one, or add it; return False if there is no room for it."""
        if not has_room and not self._may_be_known(row, asked):
            return False
        begin, week = row.day * DAY - shift, row.day // _WEEK
        question, asker = self._text(row.question, week), self._asker(*asked, week)
        owner = self._text(row.owner, week) if row.owner else question
        key = row.day, self._text(row.target, week), owner, row.type, question, host, asker
        times = row.first - begin, row.last - begin, row.end - begin
        values = *times, row.count, row.gaps, row.doubted, row.used - begin if row.used else -1, *key
        if not self._database.execute(_MERGE, values).rowcount:
            if not has_room:
                return False
            self._database.execute(_ADD, values)
            added.update((row.day, _ALL_DAYS))
            self._database.execute(_NAME, (question, row.first + shift, host, row.day))
        return True

    def _oldest(self, now: float) -> int:
        """Return the first day that is kept at a time (seconds since the epoch)."""
        return int(now) // DAY - self._days

    def _room(self, day: int, host: int) -> int:
        found = self._database.execute("SELECT rows FROM shares WHERE day = ? AND host = ?", (day, host)).fetchone()
        return self._most - (found[0] if found else 0)

    def _room_in_all(self, host: int) -> int:
        [found] = self._database.execute("SELECT ifnull(sum(rows), 0) FROM shares WHERE host = ?", (host,)).fetchone()
        return self._most_in_all - int(found)

    def _may_be_known(self, row: FleetRow, asked: tuple[str, str, str]) -> bool:
        """Return whether all texts of a row are known; none is added."""
        texts = {row.question, row.owner or row.question, row.target}
        known = self._find("askers", ("program", "container", "image"), asked) is not None
        return known and all(self._find("texts", ("text",), (text,)) is not None for text in texts)

    def _read_text(self, text: str, week: int) -> int:
        return self._kept("texts", ("text",), (text,), week)

    def _read_asker(self, program: str, container: str, image: str, week: int) -> int:
        return self._kept("askers", ("program", "container", "image"), (program, container, image), week)

    def _kept(self, table: str, columns: tuple[str, ...], values: tuple[str, ...], week: int) -> int:
        """Return the id of a content, which is kept as long as rows of a week."""
        number = self._id(table, (*columns, "week"), (*values, week), unique=len(columns))
        change = f"UPDATE {table} SET week = ? WHERE id = ? AND week < ?"  # noqa: S608 - names of this file
        self._database.execute(change, (week, number, week))
        return number

    def _read_host(self, name: str) -> int:
        columns = "name", "heard", "skew", "behind", "dropped", "waiting", "trimmed", "left_out"
        return self._id("hosts", columns, (name, 0, 0, 0, 0, 0, 0, 0), unique=1)

    def _id(self, table: str, columns: tuple[str, ...], values: tuple[str | int, ...], unique: int = 0) -> int:
        """Return the id of a content, which is added if it is new. The first `unique` columns identify it, else all."""
        named = columns[: unique or len(columns)]
        if (known := self._find(table, named, values[: len(named)])) is not None:
            return known
        places = ", ".join("?" * len(columns))
        add = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING id"  # noqa: S608 - as above
        [number] = self._database.execute(add, values).fetchone()
        return int(number)

    def _find(self, table: str, columns: tuple[str, ...], values: tuple[str | int, ...]) -> int | None:
        """Return the id of a content, None if it is new."""
        wanted = " AND ".join(f"{one} = ?" for one in columns)
        find = f"SELECT id FROM {table} WHERE {wanted}"  # noqa: S608 - names of this file
        found = self._database.execute(find, values).fetchone()
        return None if found is None else int(found[0])

    def _note_removals(self) -> None:
        """Forget the ids of texts if some were removed, also by another process."""
        [removals] = self._database.execute("SELECT count FROM removals").fetchone()
        if removals != self._removals:
            self._forget_ids()
            self._removals = removals

    def _forget_ids(self) -> None:
        for known in (self._text, self._asker, self._host):
            known.cache_clear()
