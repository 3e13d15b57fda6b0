"""The open segment: facts in the order of their arrival, each value that repeats once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from dnstrail.captured import LAST_TIME, Flow, Process
from dnstrail.history.database import (
    Schema,
    check,
    naming_damage,
    naming_damaged_file,
    open_database,
    open_reader,
    transaction,
)
from dnstrail.history.fact import Fact, StageFact
from dnstrail.history.open_stages import Carried, carried_from
from dnstrail.history.rows import (
    Row,
    insert,
    labels_text,
    pack_flags,
    read_answers,
    read_processes,
    read_relations,
    rows,
    unpack_flags,
)
from dnstrail.protocol.facts import TransactionValues
from dnstrail.protocol.turn_follower import Position

#: transactions, and stages of connections, of a segment -> the next one goes to a new segment
MOST_TRANSACTIONS: Final = 131_072
#: stages of connections of a segment -> the next fact that is written later goes to a new segment
MOST_STAGES: Final = 65_536  # lookups, and the begin of the next segment, read all of them
#: bytes of a segment -> the next fact that is written later goes to a new segment
MOST_BYTES: Final = 32 << 20
#: seconds from the first to the last fact of a segment -> the next one goes to a new segment: age removes whole ones
MOST_SPAN: Final = 86_400.0
SCHEMA: Final = Schema(
    0x444E5346,
    """
    CREATE TABLE starts (id INTEGER PRIMARY KEY, start TEXT);
    CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT);
    CREATE TABLE programs (id INTEGER PRIMARY KEY, name TEXT, path TEXT, user_id INTEGER, container_id TEXT,
        container_name TEXT, container_image TEXT, cgroup_id INTEGER, mount_namespace INTEGER, pid_namespace INTEGER,
        owner INTEGER);
    CREATE TABLE processes (id INTEGER PRIMARY KEY, pid INTEGER, start_time INTEGER, parent_pid INTEGER,
        thread_id INTEGER, program INTEGER);
    CREATE TABLE paths (id INTEGER PRIMARY KEY, host TEXT, hop INTEGER, source BLOB, destination BLOB,
        destination_port INTEGER, transport TEXT, namespace INTEGER, resolver BLOB, resolver_port INTEGER);
    CREATE TABLE endings (id INTEGER PRIMARY KEY, type INTEGER, outcome INTEGER, rcode INTEGER, tries INTEGER,
        left_out INTEGER, flags INTEGER);
    CREATE TABLE relations (id INTEGER PRIMARY KEY, owner INTEGER, type INTEGER, target INTEGER);
    CREATE TABLE answers (id INTEGER PRIMARY KEY, relations BLOB);
    CREATE TABLE transactions (id INTEGER PRIMARY KEY, start INTEGER, batch INTEGER, place INTEGER, ended INTEGER,
        name INTEGER, ending INTEGER, path INTEGER, process INTEGER, source_port INTEGER, socket INTEGER,
        waited INTEGER, answer INTEGER, ttls BLOB, for_start INTEGER, for_batch INTEGER, for_place INTEGER);
    CREATE TABLE stages (id INTEGER PRIMARY KEY, stage TEXT, bound TEXT, connected INTEGER, error TEXT, why TEXT);
    CREATE TABLE connections (id INTEGER PRIMARY KEY, start INTEGER, batch INTEGER, place INTEGER, time INTEGER,
        stage INTEGER, name INTEGER, path INTEGER, process INTEGER, source_port INTEGER, socket INTEGER,
        lasted INTEGER, bytes_sent INTEGER, bytes_received INTEGER);
    CREATE TABLE positions (start TEXT PRIMARY KEY, position BLOB) WITHOUT ROWID;
    CREATE TABLE coverage (id INTEGER PRIMARY KEY, since INTEGER, until INTEGER)
    """,
    (
        # The stages of the connections that were open at the begin, whether these are all, and restarts of the cache.
        """
    CREATE TABLE carried (id INTEGER PRIMARY KEY, start INTEGER, batch INTEGER, place INTEGER, time INTEGER,
        stage INTEGER, name INTEGER, path INTEGER, process INTEGER, source_port INTEGER, socket INTEGER,
        lasted INTEGER, bytes_sent INTEGER, bytes_received INTEGER);
    CREATE TABLE carryover (whole INTEGER);
    CREATE TABLE restarts (time INTEGER)
    """,
        "ALTER TABLE programs ADD COLUMN unit TEXT DEFAULT ''; ALTER TABLE programs ADD COLUMN slice TEXT DEFAULT ''",
        "ALTER TABLE programs ADD COLUMN labels TEXT DEFAULT ''",
    ),
    (
        (3, "CREATE TEMP VIEW programs AS SELECT *, '' AS unit, '' AS slice, '' AS labels FROM main.programs"),
        (4, "CREATE TEMP VIEW IF NOT EXISTS programs AS SELECT *, '' AS labels FROM main.programs"),
    ),
)
#: A table of a segment from which something was removed: the times at which the removed answers were live, and the
#: removed connections open.
FORGOTTEN: Final = "CREATE TABLE forgotten (since INTEGER, until INTEGER)"
_SECOND: Final = 1_000_000_000  # ns
_HAS_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE name = ?"
_TABLES: Final = ("starts", "texts", "programs", "processes", "paths", "endings", "relations", "answers", "stages")
_LATER: Final = "UPDATE coverage SET until = ? WHERE since = ? AND id = (SELECT max(id) FROM coverage)"
_TIMES: Final = """
    SELECT (SELECT min(ended) FROM transactions), (SELECT max(ended) FROM transactions),
        (SELECT min(time) FROM connections), (SELECT max(time) FROM connections)"""
_PROGRAM: Final = attrgetter(
    *("name", "path", "user_id", "container_id", "container_name", "container_image", "cgroup_id"),
    *("mount_namespace", "pid_namespace", "owner", "unit", "slice"),
)
_PACK = msgspec.msgpack.Encoder().encode
_Kind = TypeVar("_Kind", Fact, StageFact)
_POSITION = msgspec.msgpack.Decoder(Position).decode


class Stretch(NamedTuple):
    """A time (ns of wall time) from which every fact was received and stored."""

    since: int
    until: int


class StoredProgress(NamedTuple):
    """How far the facts are stored: by start, and the stretch without a gap up to now, None if there is none."""

    positions: Mapping[str, Position]
    stretch: Stretch | None = None


class _Interned(dict[Any, int]):
    """The ids of the rows of a table by their contents. A new content gets the next id; `rows` collects its row."""

    def __init__(self, columns: Callable[[Any], Row]) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._columns = columns

    def __missing__(self, content: Any) -> int:
        columns = self._columns(content)
        number = self[content] = len(self) + 1
        self.rows.append((number, *columns))
        return number


class OpenSegment:
    """The segment to which facts are added. After an error it is opened anew: it holds what was written before."""

    def __init__(self, path: Path) -> None:
        """Open a segment, or make it.

        Raises:
            DamagedFileError: It is damaged.
            SettingsError: A later version of dnstrail made it.
            OSError, sqlite3.Error: It cannot be made or opened.
        """
        self.path = path
        self._counts = 0, 0  # of its transactions, and of the stages of connections: their greatest ids
        self._first, self._last = LAST_TIME, 0  # ns: a live fact that is added counts for the time of its writing
        self._database = open_database(path, SCHEMA)
        try:
            check(self._database, path)
            with naming_damage(path):
                self._load()
        except BaseException:
            self._database.close()
            raise

    @property
    def count(self) -> int:
        """The number of its facts."""
        return sum(self._counts)

    @property
    def is_full(self) -> bool:
        """Whether the next fact goes to a new segment."""
        is_long = self._last - self._first >= MOST_SPAN * _SECOND
        has_many = self.count >= MOST_TRANSACTIONS or self._counts[1] >= MOST_STAGES
        return self._is_ended or is_long or has_many or (self.count > 0 and self._bytes() >= MOST_BYTES)

    @property
    def is_new(self) -> bool:
        """Whether it has no fact, and states nothing about what came before it."""
        return self._is_new and not self.count

    def carry(self, carried: Carried, progress: StoredProgress) -> None:
        """Note before any fact which connections are open, and the stretch of time: another one then states a gap.

        Raises:
            DamagedFileError: It is damaged.
            sqlite3.Error: It cannot be written.
        """
        rows = [self._stage_row(number, one) for number, one in enumerate(carried.stages, 1)]
        with naming_damaged_file(self.path), self._committing() as database:
            insert(database, "carried", rows)
            database.execute("INSERT INTO carryover VALUES (?)", (carried.whole,))
            _note_progress(database, progress)
        self._is_new = False

    def carried(self) -> Carried:
        """Return what the next segment is to carry.

        Raises:
            DamagedFileError: It is damaged.
            sqlite3.Error: It cannot be read.
        """
        with naming_damage(self.path):
            return carried_from(self._database)

    def write(
        self,
        facts: Sequence[Fact | StageFact],
        progress: StoredProgress,
        restarted: int | None = None,
        *,
        now: int | None = None,
    ) -> None:
        """Add facts, and note how far they are stored: all of it, or nothing.

        `restarted` is the time until which the facts of a run of the cache are known (ns), if another run has begun.
        `now` (ns) counts for live facts in the span of the segment: their own times may be anything.

        Raises:
            DamagedFileError: It is damaged.
            sqlite3.Error: It cannot be written.
        """
        transactions, connections = self._counts
        added = [self._row(number, one) for number, one in enumerate(_of(Fact, facts), transactions + 1)]
        stages = [self._stage_row(number, one) for number, one in enumerate(_of(StageFact, facts), connections + 1)]
        with naming_damaged_file(self.path), self._committing() as database:
            insert(database, "transactions", added)
            insert(database, "connections", stages)
            _note_progress(database, progress)
            insert(database, "restarts", [] if restarted is None else [(restarted,)])
        self._counts = transactions + len(added), connections + len(stages)
        self._note_times(*(fact.time if now is None or fact.id.is_loaded else now for fact in facts))

    @contextmanager
    def _committing(self) -> Iterator[sqlite3.Connection]:
        """Yield the file to add rows to, with the new contents that have ids: all of it is written, or nothing."""
        database = self._database
        with transaction(database):
            for name, table in self._tables.items():
                insert(database, name, table.rows)
            yield database
        for table in self._tables.values():
            table.rows.clear()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _bytes(self) -> int:
        pages, size = (self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * size)

    def _load(self) -> None:
        """Read the contents that have ids."""
        self._paths, self._programs, self._stages = (_Interned(tuple) for _ in range(3))
        self._endings = _Interned(lambda ending: (*ending[:5], pack_flags(*ending[5:])))
        self._starts, self._texts = (_Interned(lambda text: (text,)) for _ in range(2))
        self._processes = _Interned(self._process_row)
        texts = self._texts
        self._relations = _Interned(lambda one: (texts[one[0]], one[1], texts[one[2]]))
        self._answers = _Interned(lambda relations: (_PACK([self._relations[one] for one in relations]),))
        tables = self._starts, texts, self._programs, self._processes, self._paths, self._endings
        self._tables = dict(zip(_TABLES, (*tables, self._relations, self._answers, self._stages), strict=True))
        database = self._database
        self._endings.update(
            ((*ending, *unpack_flags(flags)), number) for number, *ending, flags in rows(database, "endings")
        )
        for name in ("paths", "programs", "stages"):
            self._tables[name].update((tuple(content), number) for number, *content in rows(database, name))
        for name in ("starts", "texts"):
            self._tables[name].update((text, number) for number, text in rows(database, name))
        self._processes.update((process, number) for number, process in read_processes(database).items())
        relations = read_relations(database)
        self._relations.update((relation, number) for number, relation in relations.items())
        self._answers.update((answer, number) for number, answer in read_answers(database, relations).items())
        counted = "SELECT (SELECT count(*) FROM transactions), (SELECT count(*) FROM connections)"
        self._counts = database.execute(counted).fetchone()
        self._is_new = database.execute("SELECT 1 FROM carryover").fetchone() is None
        self._is_ended = database.execute(_HAS_TABLE, ("extent",)).fetchone() is not None  # a worker began to finish it
        self._note_times(*(time for time in database.execute(_TIMES).fetchone() if time is not None))

    def _note_times(self, *times: int) -> None:
        self._first, self._last = min((self._first, *times)), max((self._last, *times))

    def _process_row(self, process: Process) -> Row:
        program = self._programs[*_PROGRAM(process), labels_text(process.container_labels)]
        return process.pid, process.start_time, process.parent_pid, process.thread_id, program

    def _row(self, number: int, fact: Fact) -> Row:
        values, flow, process, others = fact.values, fact.flow, fact.process, fact.asked_for
        start, batch, place = fact.id
        ending = values.type, values.outcome, values.rcode, values.tries, values.left_out
        answer, ttls = self._answer(values) if values.relations else (None, None)
        return (
            number,
            self._starts[start],
            batch,
            place,
            fact.ended,
            self._texts[values.name],
            self._endings[(*ending, values.admitted, values.matched, values.doubted, values.foreign)],
            self._paths[(fact.host, values.hop, *_ends(flow), values.resolver, values.resolver_port)],
            None if process is None else self._processes[process],
            None if flow is None else flow.source_port,
            values.socket,
            values.waited,
            answer,
            ttls,
            # sqlite3 binds a number sooner than None.
            *((0, 0, 0) if others is None else (self._starts[others.start], others.batch, others.place)),
        )

    def _answer(self, values: TransactionValues) -> tuple[int, bytes]:
        """Return the id of the relations of a transaction, and their TTLs."""
        relations, ttls = [], []
        for owner, rdtype, target, ttl in values.owned:
            relations.append((owner, rdtype, target))
            ttls.append(ttl)
        return self._answers[tuple(relations)], _PACK(ttls)

    def _stage_row(self, number: int, fact: StageFact) -> Row:
        values, flow, process = fact.values, fact.flow, fact.process
        start, batch, place = fact.id
        return (
            number,
            self._starts[start],
            batch,
            place,
            fact.time,
            self._stages[values.stage, values.bound, values.connected, values.error, values.why],
            None if values.name is None else self._texts[values.name],
            self._paths[(fact.host, None, *_ends(flow), None, None)],
            None if process is None else self._processes[process],
            flow.source_port,
            values.socket,
            values.lasted,
            values.bytes_sent,
            values.bytes_received,
        )


def carried_after(path: Path, *, is_begin: bool) -> Carried:
    """Return what a segment carries, as the one before it states it; `path` is that of the final one.

    `is_begin`: no connection was known before the segment.

    Raises:
        DamagedFileError: The file is damaged.
        SettingsError: A later version of dnstrail made it.
        sqlite3.Error: It cannot be read.
    """
    if not (final := path.exists()) and not (path := path.with_suffix(".open")).exists():
        return Carried(whole=is_begin)
    with naming_damage(path), closing(open_reader(path, SCHEMA, final=final)) as database:
        return carried_from(database)


def restart_of(before: StoredProgress, progress: StoredProgress) -> int | None:
    """Return the time until which facts are known if the progress is one of another run of the cache; else None."""
    if not before.positions or not progress.positions or before.positions.keys() & progress.positions.keys():
        return None
    return None if before.stretch is None else before.stretch.until


def read_progress(database: sqlite3.Connection) -> StoredProgress:
    """Return how far the facts are stored, as a segment states it.

    Raises:
        BAD_CONTENTS, sqlite3.Error: It cannot be read.
    """
    positions = {msgspec.convert(start, str): _POSITION(packed) for start, packed in rows(database, "positions")}
    found = database.execute("SELECT since, until FROM coverage ORDER BY id DESC LIMIT 1").fetchone()
    return StoredProgress(positions, found and msgspec.convert(found, Stretch))


def read_forgotten(database: sqlite3.Connection) -> list[Stretch]:
    """Return the times at which answers were live, or connections open, that were removed from a segment.

    Raises:
        BAD_CONTENTS, sqlite3.Error: They cannot be read.
    """
    if database.execute(_HAS_TABLE, ("forgotten",)).fetchone() is None:
        return []
    return [msgspec.convert(row, Stretch) for row in database.execute("SELECT since, until FROM forgotten")]


def _note_progress(database: sqlite3.Connection, progress: StoredProgress) -> None:
    """Note how far facts are stored; the present stretch is the last one of the segment."""
    database.execute("DELETE FROM positions")
    insert(database, "positions", [(start, _PACK(one)) for start, one in progress.positions.items()])
    stretch = progress.stretch
    if stretch is not None and not database.execute(_LATER, (stretch.until, stretch.since)).rowcount:
        database.execute("INSERT INTO coverage (since, until) VALUES (?, ?)", stretch)


def _of(kind: type[_Kind], facts: Sequence[Fact | StageFact]) -> list[_Kind]:
    return [fact for fact in facts if isinstance(fact, kind)]


def _ends(flow: Flow | None) -> Row:
    if flow is None:
        return (None,) * 5
    return flow.source, flow.destination, flow.destination_port, flow.transport, flow.namespace
