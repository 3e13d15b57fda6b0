"""The sums of answers that were given often: a past lookup reads the last ones one by one, and of the others this."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from dnstrail.history.rows import ADMITTED, DOUBTED, Row, flag_of, insert, rows

_SECOND: Final = 1_000_000_000  # ns

ROWS: Final = 256  # the last transactions with one answer that a past lookup reads one by one, of each segment
_GROUPS: Final = """
    SELECT answer, name, flags, ttls, count(*), min(ended), max(ended)
    FROM transactions JOIN endings ON endings.id = ending WHERE {} GROUP BY answer, name, flags, ttls ORDER BY answer"""
_OF_ALL: Final = _GROUPS.format("answer IS NOT NULL")
_OF_ONE: Final = _GROUPS.format("answer = ? AND ended <= ?")
_SUMS: Final = """
    CREATE TABLE sums (answer INTEGER, name INTEGER, doubted INTEGER, times INTEGER, first INTEGER, ends BLOB,
        PRIMARY KEY (answer, name, doubted)) WITHOUT ROWID"""
# The latest end of all relations (s), and the longest TTL, of each answer. `question` is the name that was asked each
# time, NULL if there are several, if the answer was doubted, or if its times are not in the order of arrival. `digest`
# is that of this name and the relations, the same in each segment. The files of earlier versions lack one or both.
_SPANS: Final = """
    CREATE TABLE spans (answer INTEGER PRIMARY KEY, ends INTEGER, longest INTEGER, question INTEGER,
        digest BLOB)"""
_IN_ORDER: Final = "SELECT answer, ended FROM transactions WHERE answer IS NOT NULL ORDER BY id"
_STORED: Final = "SELECT name, doubted, times, first, ends FROM sums WHERE answer = ?"
_DIGEST: Final = 16  # bytes: strangers choose names
_PACK = msgspec.msgpack.Encoder().encode
_NUMBERS = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class AnswerSum(NamedTuple):
    """How often a question was given the same relations in the same order. Times are ns of wall time.

    `ends` are the latest ends of these relations, without grace.
    """

    answer: int
    name: int
    doubted: bool
    times: int
    first: int
    ends: Sequence[int]


def sums_of(database: sqlite3.Connection, answer: int, until: int) -> Iterator[AnswerSum]:
    """Yield the sums of one answer until a time."""
    return (found for found, _ in _summed(database.execute(_OF_ONE, (answer, until))))


def sums_stored(database: sqlite3.Connection, answer: int) -> Iterator[AnswerSum]:
    """Yield the sums of one answer as a full segment has them: none if it was given ROWS times or less."""
    for row in database.execute(_STORED, (answer,)):
        name, doubted, times, first, ends = msgspec.convert(row, tuple[int, int, int, int, bytes])
        yield AnswerSum(answer, name, bool(doubted), times, first, _NUMBERS(ends))


def store_sums(database: sqlite3.Connection) -> None:
    """Store the sums and the spans of a full segment."""
    database.execute(_SUMS)
    database.execute(_SPANS)
    sums: list[Row] = []
    spans: dict[int, Row] = {}
    late = _late_answers(database)
    for one, longest in _summed(database.execute(_OF_ALL)):
        known = spans.get(one.answer)
        question = None if known or one.doubted or one.answer in late else one.name
        _, ends, most, _ = known or (0, 0, 0, None)
        spans[one.answer] = one.answer, max(ends, ends_at(max(one.ends))), max(most, longest), question
        if one.times > ROWS:
            sums.append((*one[:-1], _PACK(one.ends)))
    insert(database, "sums", sums)
    insert(database, "spans", [*_with_digests(database, spans)])


def _with_digests(database: sqlite3.Connection, spans: Mapping[int, Row]) -> Iterator[Row]:
    """Yield the spans of answers with the digests of what these state."""
    texts: dict[int | None, str] = dict(rows(database, "texts"))
    relations = {
        number: _PACK((texts[owner], rdtype, texts[target]))
        for number, owner, rdtype, target in rows(database, "relations")
    }
    for answer, packed in rows(database, "answers"):
        if (span := spans.get(answer)) is not None:
            digest = blake2b(_PACK(texts.get(span[3])), digest_size=_DIGEST)
            for one in _NUMBERS(packed):
                digest.update(relations[one])
            yield *span, digest.digest()


def _late_answers(database: sqlite3.Connection) -> set[int]:
    """Return the answers with a transaction that arrived after one which ended later."""
    last: dict[int, int] = {}
    late = set()
    for answer, ended in database.execute(_IN_ORDER):
        if ended < last.get(answer, 0):
            late.add(answer)
        last[answer] = ended
    return late


def ends_at(time: int) -> int:
    """Return the first whole second that is not before a time (ns)."""
    return -(-time // _SECOND)


def _summed(groups: sqlite3.Cursor) -> Iterator[tuple[AnswerSum, int]]:
    """Add up groups, those of one answer after another; yield each sum with the longest TTL of the answer."""
    for answer, of_answer in groupby(groups, itemgetter(0)):
        found: dict[tuple[int, bool], tuple[int, int, list[int]]] = {}
        longest = 0
        for _, name, flags, packed, times, first, latest in of_answer:
            if not flag_of(flags, ADMITTED):
                continue
            ttls = _NUMBERS(packed)
            longest = max(longest, *ttls)
            ends = [latest + ttl * _SECOND for ttl in ttls]
            key = name, bool(flag_of(flags, DOUBTED))
            before, began, ended = found.get(key, (0, first, ends))
            found[key] = before + times, min(began, first), [*map(max, ended, ends)]
        for (name, doubted), total in found.items():
            yield AnswerSum(answer, name, doubted, *total), longest
