"""The lives of relations: when each asker was given each of them, in one file for each year."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.history.database import Schema, naming_damage, naming_damaged_file, open_database, transaction
from dnstrail.history.periods import MERGE, merge_periods
from dnstrail.history.rows import ADMITTED, Relation, Row, flag_of, read_relations, rows

LIVES: Final = Schema(
    0x444E534C,
    """
    CREATE TABLE segments (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
    CREATE TABLE askers (id INTEGER PRIMARY KEY, program TEXT, container TEXT, user_id INTEGER,
        UNIQUE (program, container, user_id));
    CREATE TABLE lives (day INTEGER, owner INTEGER, type INTEGER, target INTEGER, asker INTEGER, first INTEGER,
        last INTEGER, "end" INTEGER, count INTEGER, gaps INTEGER, PRIMARY KEY (day, owner, type, target, asker))
        WITHOUT ROWID;
    CREATE INDEX lives_by_target ON lives (day, target)
    """,
    (
        # A row states its times as distances, which take fewer bytes; `last` and `end` are computed when it is read.
        """
    ALTER TABLE lives RENAME COLUMN last TO lasted;
    ALTER TABLE lives RENAME COLUMN "end" TO held;
    UPDATE lives SET lasted = lasted - first, held = held - lasted;
    ALTER TABLE lives ADD COLUMN last INTEGER AS (first + lasted);
    ALTER TABLE lives ADD COLUMN "end" INTEGER AS (first + lasted + held)
    """,
    ),
)
#: lives of a segment, each of one relation, asker and day -> further ones, or those of a user with over half, are
#: left out: `dnstrail_history_lives_left_out_total`
MOST_SPANS: Final = 262_144
#: lives of a day in the file of its year, and half as many of one user -> those of further relations and askers are
#: left out: `dnstrail_history_lives_left_out_total`
MOST_OF_DAY: Final = 1_048_576
#: bytes of the lives of a year -> those of further relations, askers and days are left out:
#: `dnstrail_history_lives_left_out_total`
MOST_BYTES: Final = 2 << 30
_SECOND: Final = 1_000_000_000  # ns
_DAY: Final = 86_400  # seconds
_READ: Final = """
    SELECT day, owner.text, type, target.text, program, container, user_id, first, last, "end", count, gaps FROM lives
    JOIN texts owner ON owner.id = owner JOIN texts target ON target.id = target
    JOIN askers ON askers.id = asker"""
_KNOWN: Final = """
    SELECT 1 FROM lives WHERE day = ? AND owner = (SELECT id FROM texts WHERE text = ?) AND type = ?
        AND target = (SELECT id FROM texts WHERE text = ?)
        AND asker = (SELECT id FROM askers WHERE program = ? AND container = ? AND user_id = ?)"""
_OF_USERS: Final = """
    SELECT container, user_id, count(*) FROM lives JOIN askers ON askers.id = asker WHERE day = ?
    GROUP BY container, user_id"""
_SIGHTINGS: Final = """
    SELECT ended, process, ending, answer, ttls FROM transactions WHERE id > ? AND for_start = 0 AND {}
    ORDER BY ended"""
_ALL, _OF_ANSWERS = map(_SIGHTINGS.format, ("answer IS NOT NULL", "answer IN (SELECT value FROM json_each(?))"))
_ASKER: Final = """
    SELECT coalesce(nullif(programs.path, ''), name, ''), coalesce(nullif(container_name, ''), container_id, ''),
        coalesce(user_id, 0)
    FROM processes JOIN programs ON programs.id = program WHERE processes.id = ?"""
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class AskingProgram(NamedTuple):
    """The program, the container and the user for which a relation was answered; "" and 0 where they are unknown."""

    program: str
    container: str
    user_id: int = 0

    @property
    def asking_user(self) -> tuple[str, int]:
        """The user, and the container in which the user runs the program."""
        return self.container, self.user_id


Seconds = Annotated[int, msgspec.Meta(ge=0, le=LAST_TIME // _SECOND)]  # since the epoch
_Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class RelationLife(NamedTuple):
    """A relation that one asker was given in one period, which begins on a day (since the epoch, UTC).

    Times are seconds.

    `end` is the latest end of an answer, `answers` their number, and `gaps` how often one came after all before it of
    its segment had ended; the first one of a segment, or of a part of one, after all of those before.
    """

    day: _Natural
    relation: Relation
    asker: AskingProgram
    first: Seconds
    last: Seconds
    end: _Natural
    answers: Annotated[int, msgspec.Meta(ge=1)]
    gaps: _Natural


_SpanKey = tuple[int, int, int]  # a day, and the numbers of a relation and of an asker


class _Span:
    """The answers with one relation for one asker, in the order of their times (ns)."""

    __slots__ = ("count", "end", "first", "gaps", "last")

    def __init__(self, first: int) -> None:
        self.first = self.last = self.end = first
        self.count = self.gaps = 0

    def add(self, ended: int, end: int) -> None:
        """Add an answer."""
        self.last = ended
        self.count += 1
        if ended > self.end:
            self.gaps += 1
        if end > self.end:
            self.end = end


class _Askers(dict[int | None, int]):
    """The numbers of the askers of a segment by process; `found` has the askers in the order of their numbers.

    A process is read when it is needed first.
    """

    def __init__(self, segment: sqlite3.Connection) -> None:
        super().__init__()
        self.found: list[AskingProgram] = []
        self._segment = segment
        self._numbers: dict[AskingProgram, int] = {}

    def __missing__(self, process: int | None) -> int:
        asker = AskingProgram(*(self._segment.execute(_ASKER, (process,)).fetchone() or ("", "")))
        number = self[process] = self._numbers.setdefault(asker, len(self.found))
        if number == len(self.found):
            self.found.append(asker)
        return number


class _Spans:
    """The spans of a segment, at most MOST_SPANS. `beyond` counts the answers of those that are left out.

    A user of a container, or of the host, who has more than half of them gives up the last ones for those of others.
    """

    def __init__(self, askers: Sequence[AskingProgram]) -> None:
        """Begin without a span; `askers` are named by their place."""
        self.spans: dict[_SpanKey, _Span] = {}
        self.beyond = 0
        self._askers = askers
        self._of_user: defaultdict[tuple[str, int], list[_SpanKey]] = defaultdict(list)
        self._largest: list[_SpanKey] = []  # the spans of the user who has more than half, if there is one

    def begin(self, key: _SpanKey, ended: int) -> _Span | None:
        """Return a new span, None if there is no room."""
        own = self._of_user[self._askers[key[2]].asking_user]
        if len(self.spans) >= MOST_SPANS:
            if own is self._largest or len(self._largest) <= MOST_SPANS // 2:
                self.beyond += 1
                return None
            self.beyond += self.spans.pop(self._largest.pop()).count
        own.append(key)
        if len(own) > MOST_SPANS // 2:
            self._largest = own
        span = self.spans[key] = _Span(ended)
        return span


def lives_of(
    segment: sqlite3.Connection,
    relations: Mapping[int, Relation] | None = None,
    *,
    after: int = 0,
    left_out: Callable[[int], None] = lambda _: None,
) -> Iterator[RelationLife]:
    """Return the lives that a segment states, those of a day together; of these relations (by id) alone if given.

    Only transactions with a number beyond `after` count. The relations that a forwarder was given for a client are
    those of the client. `left_out` receives how often a relation was answered beyond MOST_SPANS, if it was.

    Raises:
        BAD_CONTENTS, sqlite3.Error: The segment cannot be read.
    """
    wanted = read_relations(segment) if relations is None else relations
    # Of each answer the packed ids of its relations: many answers may state the same thousands of relations.
    answers = {
        number: packed
        for number, packed in rows(segment, "answers")
        if relations is None or not wanted.keys().isdisjoint(_IDS(packed))
    }
    values = (after,) if relations is None else (after, json.dumps([*answers]))
    admitted = {number: flag_of(flags, ADMITTED) for number, *_, flags in rows(segment, "endings")}
    askers = _Askers(segment)
    spans = _Spans(askers.found)
    for ended, process, ending, answer, packed in segment.execute(_ALL if relations is None else _OF_ANSWERS, values):
        if not admitted[ending]:
            continue
        day, asker, ttls = ended // (_DAY * _SECOND), askers[process], _IDS(packed)
        for place, relation in enumerate(_IDS(answers[answer]) if answer in answers else ()):
            if relation not in wanted:
                continue
            key = day, relation, asker
            span = spans.spans.get(key) or spans.begin(key, ended)
            if span is not None:
                span.add(ended, ended + ttls[place] * _SECOND)
    if spans.beyond:
        left_out(spans.beyond)
    for (day, relation, asker), span in spans.spans.items():
        first, last, end = span.first // _SECOND, span.last // _SECOND, -(-span.end // _SECOND)
        life = day, wanted[relation], askers.found[asker], first, last, end, span.count, span.gaps
        yield msgspec.convert(life, RelationLife)


def merge_lives(folder: Path, name: str, lives: Iterable[RelationLife]) -> int:
    """Merge the lives of a segment into the files of their years, unless a file has those of this segment.

    Return the number of answers of the lives that were left out, since a day or a year has too many.

    Raises:
        DamagedFileError: A file is damaged.
        SettingsError: A later version of dnstrail made it.
        OSError, sqlite3.Error: It cannot be written.
    """
    years: dict[int, list[RelationLife]] = {}
    for life in lives:
        years.setdefault(year_of(life), []).append(life)
    left_out = 0
    for year, of_year in years.items():
        path = lives_path(folder, year)
        with closing(open_database(path, LIVES)) as database, naming_damaged_file(path):
            left_out += _merge(path, database, name, of_year)
    return left_out


def year_of(life: RelationLife) -> int:
    """Return the year of a life."""
    return datetime.fromtimestamp(life.day * _DAY, UTC).year


def lives_path(folder: Path, year: int) -> Path:
    """Return the file of a year."""
    return folder / f"{year:04d}.lives"


def read_lives(database: sqlite3.Connection) -> Iterator[RelationLife]:
    """Return all lives of a file."""
    for day, owner, rdtype, target, program, container, user, *numbers in database.execute(_READ):
        yield RelationLife(day, (owner, rdtype, target), AskingProgram(program, container, user), *numbers)


def _merge(path: Path, database: sqlite3.Connection, name: str, lives: list[RelationLife]) -> int:
    kept = lives
    with transaction(database):
        if not database.execute("SELECT 1 FROM segments WHERE name = ?", (name,)).fetchone():
            with naming_damage(path):
                kept = _with_room(database, lives)
                added = sorted(_numbered(database, kept))
            database.executemany(MERGE, added)
            database.execute("INSERT INTO segments VALUES (?)", (name,))
            with naming_damage(path):
                merge_periods(database, max(life.day for life in lives))
    return sum(life.answers for life in lives) - sum(life.answers for life in kept)


def _with_room(database: sqlite3.Connection, lives: list[RelationLife]) -> list[RelationLife]:
    """Return the lives that the file has already, and further ones while their day and the file have room.

    A user of a container, or of the host, has half of the room of a day at most.
    """
    pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    kept: list[RelationLife] = []
    half = MOST_OF_DAY // 2
    for day, of_day in groupby(sorted(lives, key=attrgetter("day")), attrgetter("day")):
        found = [*of_day]
        [count] = database.execute("SELECT count(*) FROM lives WHERE day = ?", (day,)).fetchone()
        room = 0 if pages * size >= MOST_BYTES else MOST_OF_DAY - count
        if room and count + len(found) <= half:
            kept += found
            continue
        of_user = Counter({(container, user): lives for container, user, lives in database.execute(_OF_USERS, (day,))})
        for life in found:
            if database.execute(_KNOWN, (day, *life.relation, *life.asker)).fetchone() is not None:
                kept.append(life)
            elif room > 0 and of_user[life.asker.asking_user] < half:
                room -= 1
                of_user[life.asker.asking_user] += 1
                kept.append(life)
    return kept


def _numbered(database: sqlite3.Connection, lives: list[RelationLife]) -> list[Row]:
    """Return lives as rows, with the ids of their texts and askers."""
    texts = {text: 0 for life in lives for text in life.relation[::2]}
    askers = {life.asker: 0 for life in lives}
    database.executemany("INSERT OR IGNORE INTO texts (text) VALUES (?)", ((text,) for text in texts))
    database.executemany("INSERT OR IGNORE INTO askers (program, container, user_id) VALUES (?, ?, ?)", askers)
    for text in texts:
        [texts[text]] = database.execute("SELECT id FROM texts WHERE text = ?", (text,)).fetchone()
    for asker in askers:
        found = database.execute("SELECT id FROM askers WHERE program = ? AND container = ? AND user_id = ?", asker)
        [askers[asker]] = found.fetchone()
    return [
        (
            *(life.day, texts[life.relation[0]], life.relation[1], texts[life.relation[2]], askers[life.asker]),
            *(life.first, life.last - life.first, life.end - life.last, life.answers, life.gaps),
        )
        for life in lives
    ]
