"""The index of a segment that is not full, in memory: which answers touch a text, and which transactions gave them."""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.dns.rdata import TYPES
from dnstrail.history.rows import DOUBTED, flag_of
from dnstrail.history.sums import ends_at
from dnstrail.image.answer import Edge
from dnstrail.image.bounds import SECOND
from dnstrail_history.past.given_answers import IS_ADMITTED

_NEW_TRANSACTIONS: Final = f"""
    SELECT transactions.id, answer, ended, ttls, texts.text, flags FROM transactions
    JOIN endings ON endings.id = ending JOIN texts ON texts.id = name
    WHERE transactions.id > ? AND (answer IS NULL OR {IS_ADMITTED}) ORDER BY transactions.id"""  # noqa: S608 - of this module
_NEW_STAGES: Final = "SELECT max(id), min(time) FROM connections WHERE id > ?"
_NEW_RELATIONS: Final = """
    SELECT relations.id, owner.text, type, target.text FROM relations JOIN texts owner ON owner.id = owner
    JOIN texts target ON target.id = target WHERE relations.id > ?"""
_NEW_ANSWERS: Final = "SELECT id, relations FROM answers WHERE id > ?"
_Relations = list[tuple[int, str, int, str]]
_NUMBERS = msgspec.msgpack.Decoder(tuple[int, ...]).decode


class StatedAnswer(NamedTuple):
    """An answer by its id in the segment, with the latest end of its relations and their longest TTL, both in s.

    `digest` is that of what it states, the same in each segment; b"" if it is not known.
    """

    answer: int
    ends: int
    longest: int
    digest: bytes = b""


class Statement(NamedTuple):
    """What an answer states: its relations in their order; none if they cannot be read.

    `question` is the name that was asked each time, in the order of the ends, and never in doubt; None if this is not
    known.
    """

    edges: tuple[Edge, ...] = ()
    question: str | None = None


class OpenIndex:
    """The index of a segment that is not full, as far as it was read: answers by text, transactions by answer."""

    def __init__(self) -> None:
        self.answers: dict[int, tuple[Edge, ...]] = {}
        self.by_text: defaultdict[str, list[int]] = defaultdict(list)
        self.owners: set[str] = set()
        self.spans: dict[int, StatedAnswer] = {}
        self.questions: dict[int, str | None] = {}  # as in a Statement
        self.first = 0  # ns: of all facts
        # By answer, of each transaction its number and its time (ns): a list of pairs takes seven times as much.
        self._transactions: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        self._relations: dict[int, Edge] = {}
        self._read = 0  # the number of the last transaction
        self._stages = 0  # the number of the last stage of a connection

    def update(self, database: sqlite3.Connection) -> None:
        """Read what was added since the last call: ids are counted from 1."""
        [(last, first)] = database.execute(_NEW_STAGES, (self._stages,))
        if last is not None:
            self._stages, self.first = last, min(self.first or first, first)
        before = self._read
        for self._read, answer, ended, packed, name, flags in database.execute(_NEW_TRANSACTIONS, (before,)):
            self.first = min(self.first or LAST_TIME, ended)
            if answer is not None:
                self._add(answer, ended, max(_NUMBERS(packed)), None if flag_of(flags, DOUBTED) else name)
        if self._read == before:
            return
        new = edges_of(database.execute(_NEW_RELATIONS, (len(self._relations),)).fetchall())
        self._relations.update(new)
        self.owners.update(owner for owner, _, _ in new.values())
        for answer, packed in database.execute(_NEW_ANSWERS, (len(self.answers),)):
            edges = self.answers[answer] = tuple(self._relations[one] for one in _NUMBERS(packed))
            for text in {text for owner, _, target in edges for text in (owner, target)}:
                self.by_text[text].append(answer)

    def given(self, answer: int) -> Iterator[tuple[int, int]]:
        """Yield the number and the time (ns) of each transaction with an answer, the last one first."""
        packed = self._transactions.get(answer, ())
        for place in range(len(packed) - 2, -1, -2):
            yield packed[place], packed[place + 1]

    def _add(self, answer: int, ended: int, longest: int, question: str | None) -> None:
        """Add the last transaction that was read."""
        given, known = self._transactions[answer], self.spans.get(answer)
        ends = ends_at(ended + longest * SECOND)
        if known is not None:
            question = question if question == self.questions[answer] and ended >= given[-1] else None
            ends, longest = max(ends, known.ends), max(longest, known.longest)
        given.extend((self._read, ended))
        self.spans[answer] = StatedAnswer(answer, ends, longest)
        self.questions[answer] = question


def edges_of(rows: Sequence[Sequence[Any]]) -> dict[int, Edge]:
    """Return relations by their ids.

    Raises:
        ValueError: One is none, since the file is damaged.
    """
    found = {number: (owner, rdtype, target) for number, owner, rdtype, target in msgspec.convert(rows, _Relations)}
    if unknown := {rdtype for _, rdtype, _ in found.values()} - TYPES:
        raise ValueError(f"no relation of the types {unknown}")
    return found
