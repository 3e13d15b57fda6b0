"""A segment as entries of the log, read also while its writer adds to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION, NET_PACKET_DNS, OUTCOMES
from dnstrail.history.closing import FINAL
from dnstrail.history.contents import TRANSACTIONS, Contents
from dnstrail.history.database import DamagedFileError, naming_damage, open_reader
from dnstrail.history.log.candidates import Candidates, candidates, exact_name, last_stages
from dnstrail.history.log.entries import LogEntry, LoggedConnection, LoggedQuestion, Relation
from dnstrail.history.log.selection import LogSelection
from dnstrail.history.rare_names import read_rare_name
from dnstrail.history.rows import Row, read_labels, unpack_flags
from dnstrail.history.segment import SCHEMA
from dnstrail.protocol.facts import HOPS, type_text

REWRITTEN: Final = "something of it was forgotten meanwhile, and the rest is left out: try again"  # a warning
LAST: Final = (1 << 63) - 1  # beyond every number of a transaction
_AT_ONCE, _FIRST = 1024, 256  # transactions that are read at once, and of the newest ones
_MOST_KEPT = 16_384  # rows of a table that are kept, where they are read one by one
_ADDRESSES: Final = 1024  # whose texts are kept: most paths have the same ones
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_SELECT_CONNECTIONS: Final = """
    SELECT id, start, batch, place, time, stage, name, path, process, source_port, socket, lasted, bytes_sent,
        bytes_received FROM connections"""
_Process = tuple[int, str, str, int, int, str, str, str, str, str]  # the values of an entry from process_id to slice
_Asker = tuple[_Process, dict[str, str]]  # with the labels
_NOBODY: Final[_Asker] = (0, "", "", 0, 0, "", "", "", "", ""), {}
Part = Sequence[tuple[int, LogEntry]]  # entries in their order, each with the number of its fact


class SegmentEntries:
    """Reads the entries of a segment. One to which facts are added is open only while a part of it is read.

    `last` is the number of the newest fact that was looked at, also if it did not fit; 0 before.
    """

    def __init__(self, path: Path, topic: str = DNS_TRANSACTION) -> None:
        """Name the file, and the facts whose entries are read."""
        self.path = path
        self.last = 0
        self._of_connections = topic == NET_CONNECTION
        self._database: sqlite3.Connection | None = None
        self._inode = 0  # of the file, once it was read
        self._candidates: Candidates | None = None
        self._rare: list[Row] = []  # the transactions of a rare name, the oldest first
        start = str if self._of_connections else _packets_of
        self._texts: Contents[str] = Contents(self.execute, "texts", str)
        self._starts: Contents[str] = Contents(self.execute, "starts", start)
        self._endings: Contents[Row] = Contents(self.execute, "endings", _ending)
        self._paths: Contents[Row] = Contents(self.execute, "paths", _path)
        self._processes: Contents[_Asker] = Contents(self.execute, "processes", _asker)
        self._relations: Contents[tuple[str, str, str]] = Contents(self.execute, "relations", _relation)
        self._answers: Contents[tuple[tuple[str, str, str], ...]] = Contents(self.execute, "answers", self._answer)
        self._contents: dict[str, Contents[Any]] = {
            "texts": self._texts,
            "starts": self._starts,
            "endings": self._endings,
            "paths": self._paths,
            "processes": self._processes,
            "relations": self._relations,
            "answers": self._answers,
        }
        self._stages: Contents[Row] = Contents(self.execute, "stages", _stage)

    def read(self, selection: LogSelection, after: int = 0) -> Generator[Part, None, None]:
        """Yield the entries of a selection after the fact of this number, in parts.

        Raises:
            DamagedFileError: The segment is damaged; the entries before are right.
            SettingsError: A later version of dnstrail made it.
            sqlite3.Error: It cannot be read.
        """
        return self._read(selection, after, _AT_ONCE, "id > ?", "id")

    def newest(self, selection: LogSelection) -> Generator[Part, None, None]:
        """Yield the entries of a selection in parts, the newest first.

        Raises:
            DamagedFileError, SettingsError, sqlite3.Error: As for `read`.
        """
        return self._read(selection, LAST, _FIRST, "id < ?", "id DESC")

    @property
    def _is_final(self) -> bool:
        return self.path.suffix == FINAL

    def _forget(self) -> None:
        """Forget the contents at the end: they refer to this segment, and a collection of garbage comes late."""
        self.close()
        for contents in (*self._contents.values(), self._stages):
            contents.clear()
        self._rare = []

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute a statement in the open file."""
        assert self._database is not None  # noqa: S101 - for the type
        return self._database.execute(statement, values)

    def _read(
        self, selection: LogSelection, place: int, count: int, beyond: str, order: str
    ) -> Generator[Part, None, None]:
        read = count
        accepts: Callable[[Any], bool] = selection.accepts if self._of_connections else selection.accepts_question
        entries_of: Callable[[list[Row]], Part] = self._connections if self._of_connections else self._questions
        try:
            while read == count:
                with naming_damage(self.path):
                    found = self._open(selection, fill=place == 0)
                    if place == LAST or order == "id":
                        self.last = self._newest()
                    rows = self._rows(found, place, count, beyond, order)
                    entries = [entry for entry in entries_of(rows) if accepts(entry[1])]
                if not self._is_final:
                    self.close()
                yield entries
                read = len(rows)
                if rows:
                    place = rows[-1][0]
        finally:
            self._forget()

    def _open(self, selection: LogSelection, *, fill: bool) -> Candidates | None:
        """Open the file unless it is open, and return where the selection looks."""
        if self._database is None:
            self._database = self._connect()
            if self._find_rare(self._database, selection):
                return None
            find = last_stages if self._of_connections else candidates
            self._candidates = find(self._database, selection, is_final=self._is_final)
            if fill and self._candidates is not None and not self._candidates.by_index:
                for contents in (self._texts, self._paths, self._processes, self._relations, self._answers):
                    contents.fill()
        return self._candidates

    def _find_rare(self, database: sqlite3.Connection, selection: LogSelection) -> bool:
        """Return whether a selection asks for a rare name; then its transactions and their contents are at hand."""
        name = exact_name(selection)
        if name is None or not self._is_final or self._of_connections:
            return False
        found = read_rare_name(database, name)
        if found is None:
            return False
        for table, rows in found.contents._asdict().items():
            self._contents[table].add(rows)
        self._rare = found.transactions
        return True

    def _connect(self) -> sqlite3.Connection:
        if (status := _status(self.path)) is None and not self._is_final:
            self.path = self.path.with_suffix(FINAL)  # it was finished in the meantime
            status = _status(self.path)
        if status is not None:
            if not S_ISREG(status.st_mode):
                raise DamagedFileError(self.path, "it is no file")  # a pipe would wait for a writer
            if self._inode not in (0, status.st_ino):  # its ids are those of other contents
                raise DamagedFileError(self.path, REWRITTEN)
            self._inode = status.st_ino
        try:
            database = open_reader(self.path, SCHEMA, final=self._is_final)
        except sqlite3.OperationalError:
            if self._is_final or self.path.exists():
                raise
            return self._connect()
        database.execute("BEGIN")  # one state of the segment
        return database

    def _newest(self) -> int:
        """Return the number of the newest fact, 0 without one."""
        table = "connections" if self._of_connections else "transactions"
        [number] = self.execute(f"SELECT ifnull(max(id), 0) FROM {table}").fetchone()  # noqa: S608 - our own names
        return msgspec.convert(number, int)

    def _rows(self, found: Candidates | None, place: int, count: int, beyond: str, order: str) -> list[Row]:
        """Return the rows of the next transactions."""
        if found is None and order == "id":
            return [row for row in self._rare if row[0] > place]
        if found is None:
            return [row for row in reversed(self._rare) if row[0] < place]
        by = f"INDEXED BY {found.by_index}" if found.by_index else ""
        select = _SELECT_CONNECTIONS if self._of_connections else TRANSACTIONS
        statement = f"{select} {by} WHERE {beyond} AND {found.condition} ORDER BY {order} LIMIT {count}"
        return self.execute(statement, (place, *found.values)).fetchall()

    def _questions(self, rows: list[Row]) -> list[tuple[int, LoggedQuestion]]:
        """Return the entries of transactions. All of them at once cost a fifth less than each by itself."""
        endings, paths, processes, starts = self._endings, self._paths, self._processes, self._starts
        texts, answers, found = self._texts, self._answers, []
        # fmt: off
        for (
            number, start, batch, place, ended, name, ending, path, process, source_port, socket, waited, answer, ttls,
            for_start, for_batch, for_place,
        ) in rows:
            # fmt: on
            if not 0 <= ended <= LAST_TIME:
                raise ValueError(f"the time {ended!r}")
            rdtype, outcome, rcode, tries, left_out, admitted, matched, doubted, foreign = endings[ending]
            host, hop, source, destination, destination_port, transport, resolver, resolver_port = paths[path]
            asker, labels = _NOBODY if process is None else processes[process]
            entry = LoggedQuestion(
                ended,
                host,
                *asker,
                f"{starts[start]}/{batch}/{place}/end",
                source,
                destination,
                source_port,
                destination_port,
                transport,
                socket,
                labels,
                resolver,
                resolver_port,
                hop,
                f"{starts[for_start]}/{for_batch}/{for_place}/end" if for_start else None,
                texts[name],
                rdtype,
                outcome,
                rcode,
                tries,
                waited,
                () if answer is None else _with_ttls(answers[answer], _IDS(ttls)),
                left_out,
                admitted,
                matched,
                doubted,
                foreign,
            )
            found.append((number, entry))
        return found

    def _connections(self, rows: list[Row]) -> list[tuple[int, LoggedConnection]]:
        return [self._connection(row) for row in rows]

    def _connection(self, row: Row) -> tuple[int, LoggedConnection]:
        number, start, batch, place, time, stage, name, path, process, source_port, socket, lasted, sent, received = row
        if not 0 <= time <= LAST_TIME:
            raise ValueError(f"the time {time!r}")
        name_of_stage, bound, connected, error, why = self._stages[stage]
        host, _, source, destination, destination_port, transport, _, _ = self._paths[path]
        asker, labels = _NOBODY if process is None else self._processes[process]
        return number, LoggedConnection(
            time,
            host,
            *asker,
            f"{self._starts[start]}/{batch}/{place}/{name_of_stage}",
            source,
            destination,
            source_port if source else None,
            destination_port,
            transport,
            socket,
            labels,
            name_of_stage,
            None if name is None else self._texts[name],
            bound,
            lasted,
            connected,
            error,
            why,
            sent,
            received,
        )

    def _answer(self, packed: bytes) -> tuple[tuple[str, str, str], ...]:
        return tuple(self._relations[one] for one in _IDS(packed))


def _status(path: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return path.stat()
    return None


def _with_ttls(relations: tuple[tuple[str, str, str], ...], ttls: tuple[int, ...]) -> tuple[Relation, ...]:
    return tuple([(*relation, ttl) for relation, ttl in zip(relations, ttls, strict=True)])


def _relation(owner: str, rdtype: int, target: str) -> tuple[str, str, str]:
    return owner, type_text(rdtype), target


def _ending(rdtype: int, outcome: int, rcode: int | None, tries: int, left_out: int | None, flags: int) -> Row:
    return type_text(rdtype), OUTCOMES[outcome], rcode, tries, left_out, *unpack_flags(flags)


def _stage(stage: str, bound: str | None, connected: int | None, error: str | None, why: str | None) -> Row:
    return stage, bound, None if connected is None else bool(connected), error, why


def _path(
    host: str, hop: int | None, source: bytes | None, destination: bytes | None, port: int | None, *rest: Any
) -> Row:
    transport, resolver, resolver_port = rest
    return (
        host,
        "" if hop is None else HOPS[hop],
        _text(source),
        _text(destination),
        port,
        transport,
        _text(resolver),
        resolver_port,
    )


def _packets_of(start: str) -> str:
    """Return the begin of the ids of the transactions that packets of a start began."""
    return f"{start}/{NET_PACKET_DNS}"


def _asker(*columns: Any) -> _Asker:
    return columns[:-1], read_labels(columns[-1])


@lru_cache(maxsize=_ADDRESSES)
def _text(address: bytes | None) -> str | None:
    return str(ip_address(address)) if address else None
