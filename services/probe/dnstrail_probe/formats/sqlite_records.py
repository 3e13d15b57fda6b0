"""Finds records of texts in the bytes of an SQLite database (https://www.sqlite.org/fileformat2.html).

It is for the database of a stranger: SQLite would run the views and functions of its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_MAGIC = b"SQLite format 3\0"
_SIZES = {1: 65536} | {1 << bits: 1 << bits for bits in range(10, 16)}  # of a page, by the number that states it
_SIZE, _RESERVED = slice(16, 18), 20  # places in the file
_LEAST_USED = 900  # bytes of a page; a smaller one can have less of a record than its key
_NULL, _BLOB, _TEXT = 0, 12, 13  # serial types of columns; texts and blobs have two more for each byte
_COLUMNS = 4
_HEADERS = range(1 + _COLUMNS, 1 + 9 * _COLUMNS)  # lengths of a record's header
_MOST_PLACES = 1000  # of a key: it is in indexes and in names of files, too
_MOST_RECORDS = 8  # that are read: a free page can have a former one


class _Pages(NamedTuple):
    """The bytes of a database, the bytes of a page, and how many of a page are used."""

    content: bytes
    size: int
    used: int


def last_columns(content: bytes, key: bytes, most: int) -> Iterator[bytes]:
    """Yield the last column of each record of four whose first one is the text `key`, and the second one a text.

    The other two are texts or blobs; the third one may be null. Empty columns, and records of more than `most` bytes,
    are left out. Tables are not told apart. A former record in a free page can come, too.

    Raises:
        ValueError: the bytes are no database.
    """
    size = _SIZES.get(int.from_bytes(content[_SIZE]), 0)
    if not content.startswith(_MAGIC) or not size or len(content) < size or size - content[_RESERVED] < _LEAST_USED:
        raise ValueError("no database of SQLite")
    pages, place, records = _Pages(content, size, size - content[_RESERVED]), -1, 0
    for _ in range(_MOST_PLACES):
        place = content.find(key, place + 1)
        if place < 0 or records == _MOST_RECORDS:
            return
        if found := _last_column(pages, place, len(key), most):
            records += 1
            yield found


def _last_column(pages: _Pages, place: int, key: int, most: int) -> bytes:
    """Return the last column of the record whose first column has so many bytes at a place; empty if there is none."""
    for length in _HEADERS:
        begin = place - length
        if begin >= 0 and pages.content[begin] == length:
            types = _varints(pages.content[begin + 1 : place])
            if _is_of_texts(types, key):
                sizes = [max(one - _BLOB, 0) // 2 for one in types]
                record = _record(pages, begin, length + sum(sizes), most)
                return record[len(record) - sizes[-1] :]
    return b""


def _is_of_texts(types: list[int], key: int) -> bool:
    """Return whether serial types are those of a key, a text, a text or null, and a text."""
    if len(types) != _COLUMNS:
        return False
    first, second, third, last = types
    is_text = second >= _TEXT and second % 2 == 1
    return first == _TEXT + 2 * key and is_text and (third == _NULL or third >= _BLOB) and last >= _BLOB


def _varints(data: bytes) -> list[int]:
    numbers, value = list[int](), 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(value)
            value = 0
    return numbers


def _record(pages: _Pages, begin: int, length: int, most: int) -> bytes:
    """Return a record; empty if it is longer than `most`, or incomplete. Beyond a leaf it goes on in a chain of pages.

    The numbers are those of the section "Cell Payload Overflow Pages".
    """
    content, size, used = pages
    local = length
    if length > used - 35:
        least = (used - 12) * 32 // 255 - 23
        local = least + (length - least) % (used - 4)
        local = local if local <= used - 35 else least
    parts, left, link = [content[begin : begin + local]], length - local, begin + local
    if length > most or len(parts[0]) < local:
        return b""
    while left > 0:
        link = (int.from_bytes(content[link : link + 4]) - 1) * size
        if not 0 < link <= len(content) - size:
            return b""
        parts.append(content[link + 4 : link + min(used, left + 4)])
        left -= used - 4
    return b"".join(parts)
