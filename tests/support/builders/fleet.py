"""Rows, entries and a log in memory for tests of the fleet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st

from dnstrail.history.following import AnswerContent, SpooledAnswer, SpooledUse, SpoolPart, SpoolPosition, UseContent
from dnstrail_fleet.log.contract import LogUnavailableError, StreamEntry, StreamLag
from dnstrail_fleet.row import DAY, VERSION, AskerRows, FleetEntry, FleetRow, encode_entry, read_entry
from dnstrail_fleet.store.schema import NAME
from dnstrail_fleet.store.store import ReceivedEntry

TODAY = 20_786
NOON = TODAY * DAY + DAY // 2  # seconds since the epoch
SECOND = 1_000_000_000


def row(
    question: str = "shop.example", target: str = "203.0.113.7", *, at: int = NOON, **values: int | str
) -> FleetRow:
    """Return a row with one answer."""
    stated = {"owner": "", "type": 1, "last": at, "end": at + 300, "count": 1, "gaps": 0, "doubted": 0} | values
    return FleetRow(question=question, target=target, day=at // DAY, first=at, **stated)


def entry(host: str, *rows: FleetRow, sent: int = NOON, program: str = "/usr/bin/curl", **values: int) -> FleetEntry:
    """Return an entry of a host with the rows of one program."""
    askers = (AskerRows(program, "web", "shop:1", rows),) if rows else ()
    return FleetEntry(VERSION, host, sent * 1000, askers=askers, **values)


def received(one: FleetEntry, *, late: int = 0) -> ReceivedEntry:
    """Return an entry as the store receives it; `late` is the time of the engine minus that of the host, in ms."""
    at = one.sent + late
    return ReceivedEntry(one.host, at, read_entry(encode_entry(one), one.host, at, at))


def answer(*relations: tuple[str, int, str], ended: int = NOON * SECOND, doubted: bool = False) -> SpooledAnswer:
    """Return an answer of a history, with TTLs of a minute."""
    content = AnswerContent(relations[0][0], "/usr/bin/curl", "", "", relations)
    return SpooledAnswer(ended, content, (60,) * len(relations), doubted)


def stored_rows(folder: Path) -> list[tuple[object, ...]]:
    """Return all rows of a store with their texts, sorted."""
    select = """
        SELECT day, q.text, o.text, type, t.text, hosts.name, program, container, image, first, last, "end", count,
            gaps, doubted, used
        FROM rows JOIN texts q ON q.id = question JOIN texts o ON o.id = owner JOIN texts t ON t.id = target
        JOIN hosts ON hosts.id = host JOIN askers ON askers.id = asker"""
    with closing(sqlite3.connect(folder / NAME)) as database:
        return sorted(database.execute(select))


def bodies(entries: Iterable[StreamEntry]) -> list[tuple[str, bytes]]:
    """Return what hosts wrote to a log, sorted."""
    return sorted((one.host, one.body) for one in entries)


def use(name: str, address: str, at: int = NOON) -> SpooledUse:
    """Return a connection of the program of `answer`."""
    return SpooledUse(at * SECOND, UseContent("/usr/bin/curl", "", "", name, address))


class FakeSpool:
    """A history in memory: each answer is a transaction of one segment. Connections follow them, each a stage."""

    def __init__(self, *answers: SpooledAnswer) -> None:
        self.answers = [*answers]
        self.uses: list[SpooledUse] = []
        self.reads = 0
        self.fault: Exception | None = None

    def read(self, position: SpoolPosition, most: int) -> SpoolPart:
        """Return what follows a position."""
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        found = self.answers[position.number : position.number + most]
        uses = self.uses[position.stage :]
        after = position._replace(segment=1, number=position.number + len(found), stage=len(self.uses))
        return SpoolPart(found, after, len(found), 0, 0, is_end=len(found) < most, uses=uses)


class FakeLog:
    """A log in memory that a test can break, for the steps of workers alone."""

    def __init__(self, host: str = "web1") -> None:
        self.host = host
        self.entries: list[StreamEntry] = []
        self.done: set[str] = set()
        self.fault = ""
        self.repeated = 0
        self.at = NOON * 1000
        self._next = 0

    def append(self, body: bytes) -> None:
        """Append an entry."""
        self._check()
        self.put(self.host, body)

    def put(self, host: str, body: bytes) -> None:
        """Append an entry of any host."""
        self.entries.append(StreamEntry(host, f"{self.at}-{len(self.entries)}", self.at, body))

    def read(self, most: int) -> list[StreamEntry]:
        """Return the next entries."""
        self._check()
        found = self.entries[self._next : self._next + most]
        self._next += len(found)
        return found

    def rewind(self) -> None:
        """Let all entries come again."""
        self._next = 0

    def acknowledge(self, entries: Iterable[StreamEntry]) -> None:
        """Note what is stored."""
        self._check()
        self.done |= {one.id for one in entries}

    def lag(self) -> dict[str, StreamLag]:
        """Return the state of the stream."""
        self._check()
        return {self.host: StreamLag(len(self.entries) - self._next, 0)}

    def close(self) -> None:
        """Do nothing."""

    def _check(self) -> None:
        if self.fault:
            raise LogUnavailableError("memory", self.fault, f"{self.fault}: as the test wants it")


_names = st.sampled_from(["a.example", "b.example", "192.0.2.1", "10.0.0.1", "'); DROP TABLE rows; --", ""])


@st.composite
def rows_of_any_day(draw: st.DrawFn) -> FleetRow:
    """Return a row of one of two days, few of which have different keys."""
    day = TODAY - draw(st.integers(0, 1))
    first, last = sorted(draw(st.tuples(st.integers(0, 3000), st.integers(0, 3000))))
    count = draw(st.integers(1, 5))
    totals = {"count": count, "gaps": draw(st.integers(0, count)), "doubted": draw(st.integers(0, count))}
    times = {"last": day * DAY + last, "end": day * DAY + last + draw(st.integers(0, 9))}
    times["used"] = day * DAY + draw(st.integers(first, 3000)) if draw(st.booleans()) else 0
    names = {"owner": draw(_names), "type": draw(st.sampled_from([1, 5]))}
    return row(draw(_names), draw(_names), at=day * DAY + first, **names, **times, **totals)


entries = st.builds(
    lambda host, rows, program: entry(host, *rows, program=program),
    st.sampled_from(["web1", "web2"]),
    st.lists(rows_of_any_day(), max_size=5),
    st.sampled_from(["/usr/bin/curl", ""]),
)
