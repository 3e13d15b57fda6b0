"""The contents of the tables of a segment to which its transactions and connections refer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from dnstrail.history.rows import Row

TRANSACTIONS: Final = """
    SELECT id, start, batch, place, ended, name, ending, path, process, source_port, socket, waited, answer, ttls,
        for_start, for_batch, for_place FROM transactions"""
_COLUMNS: Final = {
    "texts": "text FROM texts",
    "starts": "start FROM starts",
    "endings": "type, outcome, rcode, tries, left_out, flags FROM endings",
    "paths": "host, hop, source, destination, destination_port, transport, resolver, resolver_port FROM paths",
    "processes": """pid, name, path, parent_pid, user_id, container_id, container_name, container_image, unit, slice,
        labels FROM processes JOIN programs ON programs.id = program""",
    "relations": """owner.text, type, target.text FROM relations JOIN texts owner ON owner.id = owner
        JOIN texts target ON target.id = target""",
    "answers": "relations FROM answers",
    "stages": "stage, bound, connected, error, why FROM stages",
}
_ALL: Final = {table: f"SELECT {table}.id, {columns}" for table, columns in _COLUMNS.items()}
_ONE: Final = {table: f"{statement} WHERE {table}.id = ?" for table, statement in _ALL.items()}
_MOST_KEPT: Final = 16_384  # rows of a table that are kept, where they are read one by one
T = TypeVar("T")


class Contents(dict[int, T], Generic[T]):
    """The contents of a table by id: each is read when it is needed first, or all at once."""

    def __init__(self, execute: Callable[..., sqlite3.Cursor], table: str, make: Callable[..., T]) -> None:
        """Name what executes statements, the table, and what makes a content of the columns of a row."""
        super().__init__()
        self._execute = execute
        self._all, self._one = _ALL[table], _ONE[table]
        self._make = make

    def __missing__(self, number: int) -> T:
        row = self._execute(self._one, (number,)).fetchone()
        if row is None:
            raise LookupError(f"there is no row {number}")
        if len(self) >= _MOST_KEPT:
            self.clear()  # transactions near each other refer to the same rows
        found = self[number] = self._make(*row[1:])
        return found

    def fill(self) -> None:
        """Read the whole table."""
        self.add(self._execute(self._all))

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, each with its id."""
        self.update((number, self._make(*columns)) for number, *columns in rows)


def columns_of(*columns: Any) -> Row:
    """Return the columns of a row as its content."""
    return columns
