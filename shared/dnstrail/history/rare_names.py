"""The transactions of rare names in a full segment, each name with all that its transactions refer to in one value.

The values are compressed, with some of them as the dictionary. A reader reads a name that has none from the other
tables: a frequent one, one for which no space was left, and every name in a file of an earlier version.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final, NamedTuple

import msgspec

from dnstrail.history.contents import TRANSACTIONS, Contents, columns_of
from dnstrail.history.rows import Row, insert

_RARE: Final = 8  # transactions of a name in a segment: of a more frequent one, a few segments have the newest 100
_MOST_BYTES: Final = 10  # of all values, for each transaction of the segment
_LARGEST: Final = 16_384  # bytes of a value before it is compressed
_WINDOW: Final = 13  # the binary logarithm of the bytes of the dictionary; a larger one costs more than it saves
_MEMORY: Final = 5  # of the compressor, whose state is copied for each value
_DICTIONARY: Final = 0  # in the place of a name
_SAMPLES: Final = 16  # values of which the dictionary consists
_AT_ONCE: Final = 1024  # rows that are added at once
_TABLE: Final = "CREATE TABLE rare_names (name INTEGER PRIMARY KEY, packed BLOB)"
_FEW: Final = "SELECT name FROM transactions GROUP BY name HAVING count(*) <= ? ORDER BY count(*) DESC, name"
_OF_NAME: Final = f"{TRANSACTIONS} INDEXED BY transactions_by_name WHERE name = ? ORDER BY id"
_STORED: Final = """
    SELECT packed FROM rare_names WHERE name IN (?, (SELECT text FROM names WHERE reversed = ?)) ORDER BY name"""
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_PACK = msgspec.msgpack.Encoder().encode
_Transaction = tuple[  # the columns of TRANSACTIONS
    int, int, int, int, int, int, int, int, int | None, int | None, int | None, int | None, int | None, bytes | None,
    int | None, int | None, int | None
]  # fmt: skip
_Path = tuple[
    int, str, int | None, bytes | None, bytes | None, int | None, str | None, bytes | None, int | None
]  # fmt: skip


class _Contents(NamedTuple):
    """The rows of these tables, each with its id."""

    texts: list[tuple[int, str]]
    starts: list[tuple[int, str]]
    endings: list[tuple[int, int, int, int | None, int, int | None, int]]
    paths: list[_Path]
    processes: list[tuple[int, int, str, str, int, int, str, str, str, str, str, str]]
    relations: list[tuple[int, str, int, str]]
    answers: list[tuple[int, bytes]]


class RareName(NamedTuple):
    """The transactions of a name, the oldest first, and that to which they refer."""

    transactions: list[_Transaction]
    contents: _Contents


_UNPACK = msgspec.msgpack.Decoder(RareName).decode


def store_rare_names(database: sqlite3.Connection) -> None:
    """Store the transactions of the rare names of a full segment, which has its other indexes."""
    database.execute(_TABLE)
    names = [name for [name] in database.execute(_FEW, (_RARE,))]
    [count] = database.execute("SELECT count(*) FROM transactions").fetchone()
    read = _Reader(database)
    dictionary = b"".join(read.packed(name) for name in names[:: 1 + len(names) // _SAMPLES])[-(1 << _WINDOW) :]
    compressor = zlib.compressobj(wbits=_WINDOW, memLevel=_MEMORY, zdict=dictionary)
    found: list[Row] = [(_DICTIONARY, dictionary)]
    left = _MOST_BYTES * count - len(dictionary)
    for name in names:
        packed = read.packed(name)
        if len(packed) > _LARGEST:
            continue
        one = compressor.copy()
        found.append((name, one.compress(packed) + one.flush()))
        left -= len(found[-1][1])
        if left < 0:
            break
        if len(found) >= _AT_ONCE:
            insert(database, "rare_names", found)
            found = []
    insert(database, "rare_names", found)


def read_rare_name(database: sqlite3.Connection, name: str) -> RareName | None:
    """Return a rare name of a full segment; None if it is no such name.

    Raises:
        BAD_CONTENTS, sqlite3.Error: The segment is damaged.
    """
    try:
        found = database.execute(_STORED, (_DICTIONARY, name[::-1])).fetchall()
    except sqlite3.OperationalError:  # it has no such table; of another error the next statement reports
        return None
    if len(found) < 2:  # noqa: PLR2004
        return None
    [dictionary], [packed] = found
    unpacked = zlib.decompressobj(_WINDOW, dictionary)
    try:
        value = unpacked.decompress(packed, _LARGEST + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not unpacked.eof:
        raise ValueError("a value is too long, or cut")
    return _UNPACK(value)


class _Reader:
    """Reads the transactions of names, and what they refer to."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._contents = {table: Contents(database.execute, table, columns_of) for table in _Contents._fields}

    def packed(self, name: int) -> bytes:
        """Return a name as a value that is not compressed yet."""
        found = self._database.execute(_OF_NAME, (name,)).fetchall()
        needed: dict[str, set[int | None]] = {table: set() for table in _Contents._fields}
        needed["texts"].add(name)
        for _, start, _, _, _, _, ending, path, process, _, _, _, answer, _, for_start, _, _ in found:
            needed["starts"] |= {start, for_start or None}
            needed["endings"].add(ending)
            needed["paths"].add(path)
            needed["processes"].add(process)
            needed["answers"].add(answer)
        answers = self._contents["answers"]
        needed["relations"].update(*(_IDS(answers[one][0]) for one in needed["answers"] if one is not None))
        contents = [
            [(one, *self._contents[table][one]) for one in numbers if one is not None]
            for table, numbers in needed.items()
        ]
        return _PACK((found, contents))
