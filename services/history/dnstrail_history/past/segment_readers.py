"""A segment as a past lookup reads it: a full one by its indexes, another one by an index in memory."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.errors import SettingsError
from dnstrail.history.closing import FINAL
from dnstrail.history.database import BAD_CONTENTS, DamagedFileError, open_reader
from dnstrail.history.fact import StageFact
from dnstrail.history.open_stages import OpenStages, open_stages, states_all
from dnstrail.history.rows import Row, read_some_stages
from dnstrail.history.segment import SCHEMA, Stretch, read_forgotten
from dnstrail.history.sums import AnswerSum, sums_of, sums_stored
from dnstrail.image.answer import Edge
from dnstrail.image.bounds import SECOND
from dnstrail_history.past.given_answers import (
    ANSWERS_BETWEEN,
    LAST_ANSWERS,
    LAST_TTLS,
    ONE_ANSWER,
    ONE_WITH_TTLS,
    GivenAnswer,
    question_of,
    read_answers,
    read_undoubted,
)
from dnstrail_history.past.open_index import OpenIndex, StatedAnswer, Statement, edges_of

#: seconds that a past lookup waits for a segment while the worker finishes it -> `history` is false where that matters
LOCK_PATIENCE: Final = 0.1
# Of files, and of their contents.
FAULTS: Final = (DamagedFileError, SettingsError, OSError, sqlite3.Error, *BAD_CONTENTS)
T = TypeVar("T")
_FRUGAL: Final = "PRAGMA cache_size=-128"  # KiB of each segment
# Each statement takes a list of values as JSON; the order of its tables is that of the reading.
_TOUCHING: Final = """
    SELECT asked.key, spans.answer, ends, longest, {digest} FROM json_each(?) asked
    CROSS JOIN names ON names.reversed = asked.value CROSS JOIN related ON related.text = names.text
    CROSS JOIN spans ON spans.answer = related.answer
    WHERE (? OR EXISTS (SELECT 1 FROM relations WHERE owner = names.text)) LIMIT ?"""
_STATEMENTS: Final = """
    SELECT answers.id, {question}, relations FROM json_each(?) asked CROSS JOIN answers ON answers.id = asked.value
    CROSS JOIN spans ON spans.answer = answers.id"""
_QUESTION: Final = "(SELECT texts.text FROM texts WHERE texts.id = spans.question)"
_COLUMNS: Final = "SELECT name FROM pragma_table_info('spans')"
_RELATIONS: Final = """
    SELECT relations.id, owner.text, relations.type, target.text FROM json_each(?) asked
    CROSS JOIN relations ON relations.id = asked.value
    CROSS JOIN texts owner ON owner.id = relations.owner CROSS JOIN texts target ON target.id = relations.target"""
_STAGES_TO: Final = """
    SELECT connections.id FROM connections JOIN stages ON stages.id = connections.stage WHERE stages.stage = ?
    AND path IN (SELECT id FROM paths WHERE destination IN ({addresses}) {ports})
    AND time >= ? AND time <= ? ORDER BY connections.id DESC LIMIT ?"""
_AT_ONCE: Final = 500  # addresses of one statement
_ANSWERS_AT_ONCE: Final = 256  # whose relations are read at once
_NUMBERS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_JSON = msgspec.json.Encoder()
# The rows of _TOUCHING and of _STATEMENTS.
_Touching = list[tuple[int, int, int, int, bytes]]
_Statements = list[tuple[int, str | None, bytes]]


class SegmentReader(ABC):
    """A segment with the times of its first and last fact, and its `stretches`: the times without a gap.

    `forgotten` are the times at which answers were live, or connections open, that were removed on request.
    `ends` is the latest end of the relations that it states, without grace.
    `fault` states why it cannot be read, or is "". Then it contains nothing.
    """

    first = 0
    last_ended = ends = LAST_TIME

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            DamagedFileError, SettingsError, sqlite3.Error: It cannot be read.
        """
        self.number = int(path.stem)
        self.fault = ""
        self._path = path
        self._opened: sqlite3.Connection | None = None
        self._known: dict[int, Statement] = {}  # the answers that the lookup has read
        try:
            stretches = self._database.execute("SELECT since, until FROM coverage")
            self.stretches = [msgspec.convert(row, Stretch) for row in stretches]
            self.forgotten = read_forgotten(self._database)
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def _database(self) -> sqlite3.Connection:
        """The file, which is opened when it is needed."""
        if self._opened is None:
            final = self._path.suffix == FINAL
            self._opened = open_reader(self._path, SCHEMA, final=final, patience=LOCK_PATIENCE)
            self._opened.executescript(_FRUGAL)
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._opened is not None

    def touching(self, texts: Sequence[str], most: int, *, upwards: bool) -> Mapping[str, Sequence[StatedAnswer]]:
        """Return the answers that state relations of each of some names and addresses, but no more than `most`.

        Unless `upwards`, return none for a text to which all relations only lead.
        """
        found: defaultdict[str, list[StatedAnswer]] = defaultdict(list)
        for text, stated in self._read(self._touching(texts, most, upwards=upwards)):
            found[text].append(stated)
        return found

    def statement(self, answer: int, known: Container[bytes]) -> Statement:
        """Return what an answer states that `touching` returned. Those of `known` digests are not read with it."""
        found = self._known.get(answer)
        if found is None:
            self._known.update(self._read(self._statements(answer, known)))
            found = self._known.setdefault(answer, Statement())
        return found

    def end_lookup(self) -> None:
        """Forget what a lookup has read."""
        self._known.clear()

    def last(self, answer: int, until: int, most: int) -> list[GivenAnswer]:
        """Return the last transactions with an answer until a time (ns), the last one first."""
        return self._read(self._last(answer, until, most))

    def last_undoubted(self, answer: int, question: str | None, until: int, most: int) -> list[GivenAnswer]:
        """Return the last transactions with an answer to its one question until a time (ns), the last one first.

        They name no client.
        """
        return self._read(self._last_undoubted(answer, question or "", until, most))

    def sums(self, answer: int, until: int) -> list[tuple[str, AnswerSum]]:
        """Return the sums of an answer until a time (ns), each with its question."""
        return self._read((question_of(self._text(found.name)), found) for found in self._sums(answer, until))

    @property
    def states_all(self) -> bool:
        """Whether it states all connections that were open at its begin."""
        return self._read(states_all(self._database) for _ in range(1)) == [True]

    def open_stages(self, until: int, address: bytes | None, *, carried: bool) -> OpenStages:
        """Return the stages of the connections that are open at a time, as `open_stages` of the store does."""
        found = self._read(open_stages(self._database, until, address, carried=carried) for _ in range(1))
        return found[0] if found else OpenStages({}, set(), 0)

    def stages_to(
        self, addresses: Sequence[bytes], stage: str, ports: Sequence[int], since: int, until: int, most: int
    ) -> list[StageFact]:
        """Return the last ones of a stage of connections to these addresses within a time, in the order of arrival.

        Without ports these are connections to any port.
        """
        return self._read(self._stages_to(addresses, stage, ports, since, until, most))

    def between(self, answer: int, since: int, until: int) -> list[GivenAnswer]:
        """Return the transactions with an answer within a time."""
        return self._read(self._between(answer, since, until))

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _between(self, answer: int, since: int, until: int) -> Iterator[GivenAnswer]: ...

    def _stages_to(
        self, addresses: Sequence[bytes], stage: str, ports: Sequence[int], since: int, until: int, most: int
    ) -> Iterator[StageFact]:
        to_ports = f"AND destination_port IN ({_places(ports)})" if ports else ""
        numbers: list[int] = []
        for first in range(0, len(addresses), _AT_ONCE):
            some = addresses[first : first + _AT_ONCE]
            statement = _STAGES_TO.format(addresses=_places(some), ports=to_ports)
            rows = self._database.execute(statement, (stage, *some, *ports, since, until, most - len(numbers)))
            numbers += [msgspec.convert(number, int) for (number,) in rows]
        yield from read_some_stages(self._database, "connections", numbers)

    @abstractmethod
    def _touching(self, texts: Sequence[str], most: int, *, upwards: bool) -> Iterator[tuple[str, StatedAnswer]]: ...

    @abstractmethod
    def _statements(self, answer: int, known: Container[bytes]) -> Iterator[tuple[int, Statement]]:
        """Yield what an answer states that `touching` returned, and perhaps others, by their answers."""

    @abstractmethod
    def _last(self, answer: int, until: int, most: int) -> Iterator[GivenAnswer]: ...

    def _last_undoubted(self, answer: int, question: str, until: int, most: int) -> Iterator[GivenAnswer]:
        yield from read_undoubted(question_of(question), self._database.execute(LAST_TTLS, (answer, until, most)))

    def _sums(self, answer: int, until: int) -> Iterator[AnswerSum]:
        yield from sums_of(self._database, answer, until)

    def _text(self, number: int) -> str:
        return str(self._database.execute("SELECT text FROM texts WHERE id = ?", (number,)).fetchone()[0])

    def _read(self, rows: Iterator[T]) -> list[T]:
        """Return rows, or none if the segment cannot be read."""
        try:
            return [] if self.fault else [*rows]
        except FAULTS as error:
            self.fault = str(error)
            return []

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None


class FullSegment(SegmentReader):
    """A segment to which nobody writes any more: its times are known also while its file is closed.

    `inode` is that of its file: a file without what is to be forgotten may take its place.
    """

    def __init__(self, path: Path) -> None:
        self.inode = path.stat().st_ino
        self._found: dict[int, bytes] = {}  # the digests of answers that were found, and not read yet
        self._relations: dict[int, Edge] = {}
        super().__init__(path)

    def _begin(self) -> None:
        times = self._database.execute("SELECT first, last, (SELECT max(ends) FROM spans) FROM extent").fetchone()
        self.first, self.last_ended, ends = msgspec.convert(times, tuple[int, int, int | None])
        self.ends = SECOND * (ends or 0)
        columns = {name for [name] in self._database.execute(_COLUMNS)}
        self._to_touch = _TOUCHING.format(digest="ifnull(digest, x'')" if "digest" in columns else "x''")
        self._to_state = _STATEMENTS.format(question=_QUESTION if "question" in columns else "NULL")

    def _touching(self, texts: Sequence[str], most: int, *, upwards: bool) -> Iterator[tuple[str, StatedAnswer]]:
        asked = _JSON.encode([text[::-1] for text in texts]).decode()
        rows = self._database.execute(self._to_touch, (asked, upwards, most)).fetchall()
        for place, answer, ends, longest, digest in msgspec.convert(rows, _Touching):
            if answer not in self._known:
                self._found[answer] = digest
            yield texts[place], StatedAnswer(answer, ends, longest, digest)

    def _statements(self, answer: int, known: Container[bytes]) -> Iterator[tuple[int, Statement]]:
        del self._found[answer]
        wanted = [answer]
        while self._found and len(wanted) < _ANSWERS_AT_ONCE:
            other, digest = self._found.popitem()
            if digest not in known:
                wanted.append(other)
        rows = self._database.execute(self._to_state, (_JSON.encode(wanted).decode(),)).fetchall()
        found = [(one, question, _NUMBERS(packed)) for one, question, packed in msgspec.convert(rows, _Statements)]
        missing = {number for _, _, numbers in found for number in numbers} - self._relations.keys()
        rows = self._database.execute(_RELATIONS, (_JSON.encode(sorted(missing)).decode(),)).fetchall()
        self._relations.update(edges_of(rows))
        for one, question, numbers in found:
            yield one, Statement(tuple([self._relations[number] for number in numbers]), question)

    def end_lookup(self) -> None:
        """Forget what a lookup has found or read."""
        super().end_lookup()
        self._found.clear()
        self._relations.clear()

    def _last(self, answer: int, until: int, most: int) -> Iterator[GivenAnswer]:
        yield from read_answers(self._database.execute(LAST_ANSWERS, (answer, until, most)))

    def _between(self, answer: int, since: int, until: int) -> Iterator[GivenAnswer]:
        yield from read_answers(self._database.execute(ANSWERS_BETWEEN, (answer, since, until)))

    def _sums(self, answer: int, until: int) -> Iterator[AnswerSum]:
        stored = [*sums_stored(self._database, answer)] if self.last_ended <= until else []
        yield from stored or super()._sums(answer, until)


class OpenSegmentReader(SegmentReader):
    """A segment that may be written meanwhile: it is read as of one moment."""

    def __init__(self, path: Path, index: OpenIndex) -> None:
        self._index = index
        super().__init__(path)

    def _begin(self) -> None:
        self._database.execute("BEGIN")
        self._index.update(self._database)
        self.first = self._index.first

    def _touching(self, texts: Sequence[str], most: int, *, upwards: bool) -> Iterator[tuple[str, StatedAnswer]]:
        spans, index = self._index.spans, self._index
        answers = (
            (text, answer)
            for text in texts
            for answer in (index.by_text.get(text, ()) if upwards or text in index.owners else ())
        )
        yield from islice(((text, spans[answer]) for text, answer in answers if answer in spans), most)

    def _statements(self, answer: int, _known: Container[bytes]) -> Iterator[tuple[int, Statement]]:
        yield answer, Statement(self._index.answers[answer], self._index.questions[answer])

    def _last(self, answer: int, until: int, most: int) -> Iterator[GivenAnswer]:
        yield from read_answers(self._newest(ONE_ANSWER, answer, until, most))

    def _last_undoubted(self, answer: int, question: str, until: int, most: int) -> Iterator[GivenAnswer]:
        yield from read_undoubted(question_of(question), self._newest(ONE_WITH_TTLS, answer, until, most))

    def _newest(self, statement: str, answer: int, until: int, most: int) -> Iterator[Row]:
        numbers = (number for number, ended in self._index.given(answer) if ended <= until)
        rows = (self._database.execute(statement, (number,)).fetchone() for number in numbers)
        return islice((row for row in rows if row is not None), most)

    def _between(self, answer: int, since: int, until: int) -> Iterator[GivenAnswer]:
        numbers = [number for number, ended in self._index.given(answer) if since <= ended <= until]
        rows = (self._database.execute(ONE_ANSWER, (number,)).fetchone() for number in reversed(numbers))
        yield from read_answers(row for row in rows if row is not None)


def _places(values: Sequence[object]) -> str:
    """Return the places of some values in a statement."""
    return ", ".join("?" * len(values))
