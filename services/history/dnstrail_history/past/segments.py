"""The segments of a store as a past lookup reads them: the full ones by their indexes, others by one in memory."""

from __future__ import annotations

import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from dnstrail.captured import LAST_TIME
from dnstrail.errors import SettingsError
from dnstrail.history.closing import FINAL, OPEN
from dnstrail.history.database import BAD_CONTENTS, DamagedFileError, open_reader
from dnstrail.history.fact import StageFact
from dnstrail.history.open_stages import OpenStages, open_stages, states_all
from dnstrail.history.rows import read_some_stages
from dnstrail.history.segment import SCHEMA, Stretch, read_forgotten
from dnstrail.history.sums import AnswerSum, sums_of, sums_stored
from dnstrail.image.answer import Edge
from dnstrail.image.bounds import SECOND
from dnstrail.log_pause import LogPause
from dnstrail_history.past.given_answers import (
    ANSWERS_BETWEEN,
    LAST_ANSWERS,
    ONE_ANSWER,
    GivenAnswer,
    question_of,
    read_answers,
)
from dnstrail_history.past.open_index import OpenIndex, StatedAnswer, edge_of

#: full segments that are kept open for lookups -> each lookup opens those of the others anew that it needs
MOST_OPEN: Final = 512
# Of files, and of their contents.
_FAULTS: Final = (DamagedFileError, SettingsError, OSError, sqlite3.Error, *BAD_CONTENTS)
T = TypeVar("T")
#: seconds that a past lookup waits for a segment while the worker finishes it -> `history` is false where that matters
LOCK_PATIENCE: Final = 0.1
_FRUGAL: Final = "PRAGMA cache_size=-128"  # KiB of each segment
_TOUCHING: Final = """
    SELECT spans.answer, ends, longest FROM names JOIN related ON related.text = names.text
    JOIN spans ON spans.answer = related.answer
    WHERE reversed = ? AND (? OR EXISTS (SELECT 1 FROM relations WHERE owner = names.text)) LIMIT ?"""
_RELATIONS: Final = "SELECT relations FROM answers WHERE id = ?"
_RELATION: Final = """
    SELECT owner.text, type, target.text FROM relations JOIN texts owner ON owner.id = owner
    JOIN texts target ON target.id = target WHERE relations.id = ?"""
_STAGES_TO: Final = """
    SELECT connections.id FROM connections JOIN stages ON stages.id = connections.stage WHERE stages.stage = ?
    AND path IN (SELECT id FROM paths WHERE destination IN ({addresses}) {ports})
    AND time >= ? AND time <= ? ORDER BY connections.id DESC LIMIT ?"""
_AT_ONCE: Final = 500  # addresses of one statement
_NUMBERS = msgspec.msgpack.Decoder(tuple[int, ...]).decode


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

    def touching(self, text: str, most: int, *, upwards: bool = True) -> list[StatedAnswer]:
        """Return the answers that state relations of a name or an address, but no more than `most`.

        Unless `upwards`, return none if all relations only lead to it.
        """
        return self._read(self._touching(text, most, upwards=upwards))

    def edges(self, answer: int) -> tuple[Edge, ...]:
        """Return the relations of an answer in their order."""
        return tuple(self._read(self._edges(answer)))

    def last(self, answer: int, until: int, most: int) -> list[GivenAnswer]:
        """Return the last transactions with an answer until a time (ns), the last one first."""
        return self._read(self._last(answer, until, most))

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
    def _touching(self, text: str, most: int, *, upwards: bool) -> Iterator[StatedAnswer]: ...

    @abstractmethod
    def _edges(self, answer: int) -> Iterator[Edge]: ...

    @abstractmethod
    def _last(self, answer: int, until: int, most: int) -> Iterator[GivenAnswer]: ...

    def _sums(self, answer: int, until: int) -> Iterator[AnswerSum]:
        yield from sums_of(self._database, answer, until)

    def _text(self, number: int) -> str:
        return str(self._database.execute("SELECT text FROM texts WHERE id = ?", (number,)).fetchone()[0])

    def _read(self, rows: Iterator[T]) -> list[T]:
        """Return rows, or none if the segment cannot be read."""
        try:
            return [] if self.fault else [*rows]
        except _FAULTS as error:
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
        super().__init__(path)

    def _begin(self) -> None:
        times = self._database.execute("SELECT first, last, (SELECT max(ends) FROM spans) FROM extent").fetchone()
        self.first, self.last_ended, ends = msgspec.convert(times, tuple[int, int, int | None])
        self.ends = SECOND * (ends or 0)

    def _touching(self, text: str, most: int, *, upwards: bool) -> Iterator[StatedAnswer]:
        for row in self._database.execute(_TOUCHING, (text[::-1], upwards, most)):
            yield msgspec.convert(row, StatedAnswer)

    def _edges(self, answer: int) -> Iterator[Edge]:
        [packed] = self._database.execute(_RELATIONS, (answer,)).fetchone()
        for one in _NUMBERS(packed):
            yield edge_of(self._database.execute(_RELATION, (one,)).fetchone())

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

    def _touching(self, text: str, most: int, *, upwards: bool) -> Iterator[StatedAnswer]:
        spans = self._index.spans
        answers = self._index.by_text.get(text, ()) if upwards or text in self._index.owners else ()
        yield from islice((spans[answer] for answer in answers if answer in spans), most)

    def _edges(self, answer: int) -> Iterator[Edge]:
        yield from self._index.answers[answer]

    def _last(self, answer: int, until: int, most: int) -> Iterator[GivenAnswer]:
        known = reversed(self._index.transactions.get(answer, ()))
        rows = (self._database.execute(ONE_ANSWER, (number,)).fetchone() for number, ended in known if ended <= until)
        yield from read_answers(islice((row for row in rows if row is not None), most))

    def _between(self, answer: int, since: int, until: int) -> Iterator[GivenAnswer]:
        known = self._index.transactions.get(answer, ())
        numbers = (number for number, ended in known if since <= ended <= until)
        rows = (self._database.execute(ONE_ANSWER, (number,)).fetchone() for number in numbers)
        yield from read_answers(row for row in rows if row is not None)


class Segments:
    """The segments of a folder, as the lookups of one thread read them. `unreadable` counts those that could not be."""

    def __init__(self, folder: Path) -> None:
        self.unreadable = 0
        self._folder = folder
        # By the names of their files.
        self._full: dict[str, FullSegment] = {}
        self._found: set[str] = set()  # at the last look
        self._tried: set[str] = set()  # segments that were to be learned
        self._indexes: dict[str, OpenIndex] = {}
        self._pause = LogPause()

    @contextmanager
    def opened(self, is_over: Callable[[], bool] = lambda: False) -> Iterator[list[SegmentReader]]:
        """Yield the segments for the time of a block, the oldest first; one that cannot be read is left out.

        Once `is_over` returns true the others are left out. The times of those before are remembered.
        """
        self.close_replaced()
        readers: dict[str, SegmentReader] = {}
        for name in sorted(self._found):
            if is_over():
                break
            if (reader := self._open(name)) is not None:
                readers[name] = reader
        try:
            yield [*readers.values()]
        finally:
            for name, reader in readers.items():
                if reader.fault:
                    self._note_fault(name, reader.fault)
                    self._full.pop(name, None)
                if name not in self._full:
                    reader.close()
            open_ones = [reader for reader in self._full.values() if reader.is_open]
            for reader in open_ones[MOST_OPEN:]:
                reader.close()

    def close_replaced(self) -> None:
        """Close the files that were removed, or replaced by others without what is forgotten."""
        found: dict[str, int] = {}
        with suppress(OSError), os.scandir(self._folder) as entries:  # there is no folder: nothing is known
            found.update((entry.name, entry.inode()) for entry in entries if entry.name.endswith((OPEN, FINAL)))
        for name in [name for name, reader in self._full.items() if found.get(name) != reader.inode]:
            self._full.pop(name).close()
        for name in self._indexes.keys() - found.keys():
            del self._indexes[name]
        self._found = {*found}

    def learn(self, is_over: Callable[[], bool]) -> None:
        """Read before a lookup needs it, until `is_over` returns true: the times of full segments, and open segments.

        Each is read once; a lookup reads what is added to an open one later.
        """
        self.close_replaced()
        self._tried &= self._found
        for name in sorted(self._found - self._full.keys() - self._indexes.keys() - self._tried):
            if is_over():
                return
            self._tried.add(name)
            if (reader := self._open(name)) is not None:
                reader.close()

    def close(self) -> None:
        """Close all files."""
        for reader in self._full.values():
            reader.close()
        self._full.clear()

    def _open(self, name: str) -> SegmentReader | None:
        if name in self._full:
            return self._full[name]
        try:
            if name.endswith(OPEN):
                return self._open_unfinished(self._folder / name)
            reader = FullSegment(self._folder / name)
        except _FAULTS as error:
            self._note_fault(name, str(error))
            return None
        if len(self._full) >= MOST_OPEN:
            reader.close()
        self._full[name] = reader
        return reader

    def _note_fault(self, name: str, error: str) -> None:
        self.unreadable += 1
        if self._pause.note(time.monotonic()):
            structlog.get_logger().warning("history_not_read", segment=name, error=error)

    def _open_unfinished(self, path: Path) -> SegmentReader:
        index = self._indexes.pop(path.name, None) or OpenIndex()
        try:
            reader = OpenSegmentReader(path, index)
        except sqlite3.OperationalError:
            if path.exists():
                raise
            return FullSegment(path.with_suffix(FINAL))  # it was finished meanwhile
        self._indexes[path.name] = index
        return reader


def _places(values: Sequence[object]) -> str:
    """Return the places of some values in a statement."""
    return ", ".join("?" * len(values))
