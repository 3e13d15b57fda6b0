"""The rows of a segment as values. Each statement is made from names of this package alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from dnstrail.captured import Flow, Labels, Process
from dnstrail.history.fact import Fact, FactId, StageFact
from dnstrail.protocol.facts import ConnectionValues, TransactionValues, without_owners

Row = tuple[Any, ...]
Relation = tuple[str, int, str]  # owner, type, target
Asker = tuple[  # the fields of Process, the labels as text
    int, str, str, int, int, str, int, int, str, str, int, int, int, int, str, str, str
]  # fmt: skip
_Stage = tuple[  # the columns of _STAGES
    str, int, int, str, int, int | None, bytes, int, bytes, int, str, int, str, int | None, str | None, str | None,
    int | None, int | None, str | None, str | None, int | None, int | None
]  # fmt: skip
_STATED: Final = (None, False, True)  # a value of two bits
ADMITTED, MATCHED, DOUBTED, FOREIGN = range(0, 8, 2)  # the places of the values of two bits
_AT_ONCE: Final = 500  # rows of one statement
_LABELS = msgspec.json.Decoder(dict[str, str]).decode
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_PROCESSES: Final = """
    SELECT processes.id, pid, name, path, parent_pid, user_id, container_id, thread_id, cgroup_id, container_name,
        container_image, mount_namespace, pid_namespace, start_time, owner, unit, slice, labels
    FROM processes JOIN programs ON programs.id = program"""
_RELATIONS: Final = """
    SELECT relations.id, owner.text, type, target.text FROM relations
    JOIN texts owner ON owner.id = owner JOIN texts target ON target.id = target"""
_TRANSACTIONS: Final = """
    SELECT starts.start, batch, place, others.start, for_batch, for_place, host, ended, process, source, source_port,
        destination, destination_port, transport, namespace, socket, resolver, resolver_port, hop, texts.text, type,
        outcome, rcode, tries, waited, answer, ttls, left_out, flags
    FROM transactions
    JOIN starts ON starts.id = transactions.start LEFT JOIN starts others ON others.id = for_start
    JOIN texts ON texts.id = name JOIN endings ON endings.id = ending JOIN paths ON paths.id = transactions.path
    ORDER BY transactions.id"""
_STAGES: Final = """
    SELECT starts.start, batch, place, host, time, process, source, source_port, destination, destination_port,
        transport, namespace, stages.stage, socket, texts.text, bound, lasted, connected, error, why, bytes_sent,
        bytes_received
    FROM {table} JOIN starts ON starts.id = {table}.start JOIN stages ON stages.id = {table}.stage
    JOIN paths ON paths.id = path LEFT JOIN texts ON texts.id = name"""


def rows(database: sqlite3.Connection, table: str) -> Iterator[Row]:
    """Return the rows of a table."""
    return database.execute(f"SELECT * FROM {table}")  # noqa: S608 - a name of this package


def insert(database: sqlite3.Connection, table: str, added: Sequence[Row]) -> None:
    """Add rows to a table."""
    if added:
        places = ", ".join("?" * len(added[0]))
        database.executemany(f"INSERT INTO {table} VALUES ({places})", added)  # noqa: S608 - as above


def pack_flags(admitted: bool | None, matched: bool | None, doubted: bool | None, foreign: bool | None) -> int:
    """Return four values, each of which may be unknown, as one number."""
    stated = _STATED.index
    return stated(admitted) | stated(matched) << MATCHED | stated(doubted) << DOUBTED | stated(foreign) << FOREIGN


def flag_of(flags: int, place: int) -> bool | None:
    """Return one of the four values: that of ADMITTED, MATCHED, DOUBTED or FOREIGN."""
    return _STATED[flags >> place & 3]


def unpack_flags(flags: int) -> tuple[bool | None, ...]:
    """Return the four values in the order in which `pack_flags` takes them."""
    return tuple(flag_of(flags, place) for place in (ADMITTED, MATCHED, DOUBTED, FOREIGN))


def labels_text(labels: Labels) -> str:
    """Return the labels of a container as a segment has them: JSON, "" without labels."""
    return msgspec.json.encode(dict(labels)).decode() if labels else ""


def read_labels(text: str) -> dict[str, str]:
    """Return the labels of a container by the text of a segment.

    Raises:
        msgspec.DecodeError: The file is damaged.
    """
    return _LABELS(text) if text else {}


def process_of(row: Sequence[Any]) -> Process:
    """Return a process by the columns of an Asker."""
    return Process(*(*row[:-1], tuple(read_labels(row[-1]).items())))


def read_processes(database: sqlite3.Connection) -> dict[int, Process]:
    """Return the processes of a segment by id."""
    return {number: process_of(values) for number, *values in database.execute(_PROCESSES)}


def read_relations(database: sqlite3.Connection) -> dict[int, Relation]:
    """Return the relations of a segment by id."""
    return {number: (owner, rdtype, target) for number, owner, rdtype, target in database.execute(_RELATIONS)}


def read_answers(database: sqlite3.Connection, relations: Mapping[int, Relation]) -> dict[int, tuple[Relation, ...]]:
    """Return the relations of each answer of a segment, by its id."""
    return {number: tuple(relations[one] for one in _IDS(packed)) for number, packed in rows(database, "answers")}


def read_facts(database: sqlite3.Connection) -> Iterator[Fact]:
    """Return the transactions of a segment in the order in which they were stored."""
    processes, answers = read_processes(database), read_answers(database, read_relations(database))
    for row in database.execute(_TRANSACTIONS):
        yield _fact(row, processes, answers)


def read_stages(database: sqlite3.Connection, table: str = "connections") -> Iterator[StageFact]:
    """Return the stages of connections of a segment in the order in which they were stored."""
    processes = read_processes(database)
    for row in database.execute(f"{_STAGES.format(table=table)} ORDER BY {table}.id"):
        yield _stage(row, processes)


def read_some_stages(database: sqlite3.Connection, table: str, numbers: Sequence[int]) -> Iterator[StageFact]:
    """Return some stages of connections of a table by their ids, in the order in which they were stored.

    Raises:
        msgspec.ValidationError: A value has another type, since the file is damaged.
    """
    processes, ordered = _SomeProcesses(database), sorted(numbers)
    for first in range(0, len(ordered), _AT_ONCE):
        some = ordered[first : first + _AT_ONCE]
        places = ", ".join("?" * len(some))
        statement = f"{_STAGES.format(table=table)} WHERE {table}.id IN ({places}) ORDER BY {table}.id"
        for row in database.execute(statement, some):
            yield _stage(msgspec.convert(row, _Stage), processes)


class _SomeProcesses(dict[int, Process]):
    """The processes of a segment by id, each once it is needed."""

    def __init__(self, database: sqlite3.Connection) -> None:
        super().__init__()
        self._database = database

    def __missing__(self, number: int) -> Process:
        [row] = self._database.execute(f"{_PROCESSES} WHERE processes.id = ?", (number,)).fetchall()
        process = self[number] = process_of(msgspec.convert(row[1:], Asker))
        return process


def _stage(row: Row, processes: Mapping[int, Process]) -> StageFact:
    identity = FactId(*row[:3])
    host, time, process, source, source_port, destination, destination_port, transport, namespace = row[3:12]
    stage, socket, name, bound, lasted, connected, error, why, sent, received = row[12:]
    connected = None if connected is None else bool(connected)
    whole = f"{identity}/{stage}"
    values = ConnectionValues(whole, stage, None, socket, name, bound, lasted, connected, error, why, sent, received)
    flow = Flow(source, source_port, destination, destination_port, transport, namespace=namespace)
    return StageFact(identity, host, time, None if process is None else processes[process], flow, values)


def _fact(row: Row, processes: Mapping[int, Process], answers: Mapping[int, tuple[Relation, ...]]) -> Fact:
    identity, others = FactId(*row[:3]), None if row[3] is None else FactId(*row[3:6])
    host, ended, process, source, source_port, destination, destination_port, transport, namespace = row[6:15]
    socket, resolver, resolver_port, hop, name, rdtype, outcome, rcode, tries, waited, answer, ttls = row[15:27]
    left_out, flags = row[27:]
    relations = [] if answer is None else [(*one, ttl) for one, ttl in zip(answers[answer], _IDS(ttls), strict=True)]
    flow = None
    if transport is not None:
        flow = Flow(source, source_port, destination, destination_port, transport, namespace=namespace)
    values = TransactionValues(
        str(identity),
        None,
        socket,
        resolver,
        resolver_port,
        hop,
        None if others is None else str(others),
        name,
        rdtype,
        outcome,
        rcode,
        tries,
        waited,
        tuple(without_owners(name, relations)),
        left_out,
        *unpack_flags(flags),
    )
    return Fact(identity, others, host, ended, None if process is None else processes[process], flow, values)
