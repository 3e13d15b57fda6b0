"""A reader that follows the segments of a folder from a position on, also the open one, in the order of storing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from dnstrail.history.closing import FINAL
from dnstrail.history.database import DamagedFileError, is_locked, naming_damage, open_reader
from dnstrail.history.rows import ADMITTED, DOUBTED, Relation, pack_flags
from dnstrail.history.segment import SCHEMA
from dnstrail.history.segment_files import SegmentFile, segment_files
from dnstrail.history.subjects import Subjects

#: bytes of the packed relations of an answer -> the fleet does not receive it: `excluded`
MOST_PACKED: Final = 1 << 16
_PATIENCE: Final = 0.5  # seconds for a segment that the worker finishes
_TRUE: Final = pack_flags(True, None, None, None)
_NEXT: Final = f"""
    SELECT ended, name, process, path, answer, ttls, flags >> {DOUBTED} & {_TRUE} <> 0
    FROM transactions CROSS JOIN endings ON endings.id = ending
    WHERE transactions.id > ? AND transactions.id <= ? AND for_start = 0 AND answer IS NOT NULL
        AND flags >> {ADMITTED} & {_TRUE} <> 0
    ORDER BY transactions.id"""  # noqa: S608 - numbers of this package
_LAST: Final = "SELECT max(id), count(*) FROM (SELECT id FROM transactions WHERE id > ? ORDER BY id LIMIT ?)"
_ID: Final = """
    SELECT starts.start, batch, place FROM transactions JOIN starts ON starts.id = transactions.start
    WHERE transactions.id = ?"""
_NUMBER: Final = """
    SELECT transactions.id FROM transactions JOIN starts ON starts.id = transactions.start
    WHERE starts.start = ? AND batch = ? AND place = ?"""
_LAST_STAGE: Final = "SELECT max(id), count(*) FROM (SELECT id FROM connections WHERE id > ? ORDER BY id LIMIT ?)"
_TIME: Final = "SELECT time FROM connections WHERE id = ?"
# A socket over UDP is opened by its first datagram. The failure of an attempt is no connection.
_USES: Final = """
    SELECT time - ifnull(lasted, 0), name, process, path
    FROM connections CROSS JOIN stages ON stages.id = connections.stage CROSS JOIN paths ON paths.id = path
    WHERE connections.id > ? AND connections.id <= ? AND name IS NOT NULL AND destination IS NOT NULL
        AND (stages.stage IN ('named', 'end') OR connected = 1 OR (stages.stage = 'opened' AND transport = 'udp'))
    ORDER BY connections.id"""
_DESTINATION: Final = "SELECT destination FROM paths WHERE id = ?"
_TEXT: Final = "SELECT text FROM texts WHERE id = ?"
_HOP: Final = "SELECT hop FROM paths WHERE id = ?"
_ANSWER: Final = "SELECT relations FROM answers WHERE id = ? AND length(relations) <= ?"
_RELATION: Final = """
    SELECT owner.text, type, target.text FROM relations
    JOIN texts owner ON owner.id = owner JOIN texts target ON target.id = target WHERE relations.id = ?"""
_ASKER: Final = """
    SELECT coalesce(nullif(path, ''), name, ''), coalesce(nullif(container_name, ''), container_id, ''),
        coalesce(container_image, ''), user_id, container_id, container_name
    FROM processes JOIN programs ON programs.id = program WHERE processes.id = ?"""
_IDS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_NOBODY: Final = ("", "", "", None, "", "")
_Asker = tuple[str, str, str]  # program, container, image


class SpoolPosition(NamedTuple):
    """A place in the history: the number of a segment, and the last transaction that was read in it.

    `start`, `batch` and `place` identify this transaction: a segment that is written anew has other numbers. `stage` is
    the number of the last stage of a connection that was read, and `stage_time` its time (ns).
    """

    segment: int = 0
    number: int = 0
    start: str = ""
    batch: int = 0
    place: int = 0
    stage: int = 0
    stage_time: int = 0


class AnswerContent(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A question with its asker and its answer: one object for all answers of a segment with this content.

    What is read once the segment is finished has another one.

    `relations` are (owner, type, target) in the order of the answer. Unknown texts are "".
    """

    question: str
    program: str
    container: str
    image: str
    relations: tuple[tuple[str, int, str], ...]


class SpooledAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer: its time (ns of wall time), and a TTL (s) for each relation of its content."""

    ended: int
    content: AnswerContent
    ttls: tuple[int, ...]
    doubted: bool


class UseContent(msgspec.Struct, frozen=True):
    """Who connected to an address, and by which name. Unknown texts are ""."""

    program: str
    container: str
    image: str
    name: str
    address: str


class SpooledUse(NamedTuple):
    """A connection by a name: the time (ns of wall time) at which it was opened. Each of its stages states it again."""

    opened: int
    content: UseContent


class SpoolPart(NamedTuple):
    """A part of the history, and the position behind it.

    `read` counts the transactions that were read, also those without an answer. `behind` counts the segments after
    the one that was read last, and `dropped` those that were removed before they were read. `is_end` states that
    nothing was left to read. `uses` follow all answers of the segment that were stored before them.
    """

    answers: list[SpooledAnswer]
    position: SpoolPosition
    read: int
    behind: int
    dropped: int
    is_end: bool
    uses: Sequence[SpooledUse] = ()


class _Known:
    """What was read of one segment, by the numbers of its rows."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.relations: dict[int, Relation] = {}
        self.answers: dict[int, tuple[Relation, ...] | None] = {}
        self.askers: dict[tuple[int | None, int], _Asker | None] = {}  # by process and path
        self.contents: dict[tuple[int, int, _Asker], AnswerContent | None] = {}  # by name and answer
        self.of_rows: dict[tuple[int, int, int | None, int], AnswerContent | None] = {}  # the same, by process and path
        self.uses: dict[tuple[int, int | None, int], UseContent | None] = {}  # by name, process and path


class SegmentSpool:
    """The transactions of a folder with an answer that the cache applied; those of excluded subjects are left out.

    No file stays open: the worker could not finish it. `counters` counts answers that were `excluded`, and segments
    that were `reread` since they were written anew.
    """

    def __init__(self, folder: Path, excluded: Subjects | None = None) -> None:
        self.counters = {"excluded": 0, "reread": 0}
        self._folder = folder
        self._excluded = excluded or Subjects()
        self._of: tuple[int, ...] = ()  # the segment and the file of what is known
        self._known = _Known()
        self._precedes = False  # whether all segments preceded the position at the last read

    def read(self, position: SpoolPosition, most: int) -> SpoolPart:
        """Return what follows a position: `most` transactions and as many stages at most, of one segment.

        A folder that was begun anew is read from its begin.

        Raises:
            SettingsError: A later version of dnstrail wrote the history.
            OSError, sqlite3.Error: It cannot be read now.
        """
        found_files = segment_files(self._folder)
        if self._is_anew(found_files, position):
            structlog.get_logger().warning("history_begun_anew", last=position.segment, now=found_files[-1].number)
            position, self._of = SpoolPosition(), ()  # a new file may have the inode of a removed one
        files = [file for file in found_files if file.number >= position.segment]
        begin, dropped = position, 0
        is_gone = bool(position.segment and files and files[0].number != position.segment)
        for behind, file in zip(reversed(range(len(files))), files, strict=True):
            if file.number > begin.segment:
                dropped += file.number - begin.segment - 1 + is_gone if begin.segment else 0
                begin, is_gone = SpoolPosition(file.number), False
            try:
                found = self._read(file, begin, most)
            except DamagedFileError:
                dropped += behind > 0  # the worker may set the last one aside, and goes on in another one
                continue
            except (FileNotFoundError, sqlite3.OperationalError) as error:
                if file.path.exists() and not (isinstance(error, sqlite3.Error) and is_locked(error)):
                    raise
                return SpoolPart([], begin, 0, behind, dropped, is_end=True)  # the worker is just finishing it
            if found.position != begin or not behind:
                return found._replace(behind=behind, dropped=dropped, is_end=not behind and found.is_end)
        return SpoolPart([], position, 0, 0, 0, is_end=True)

    def _is_anew(self, files: Sequence[SegmentFile], position: SpoolPosition) -> bool:
        """Return whether the folder was begun anew: at two reads, all its segments precede the position."""
        # When it forgets, the worker removes an empty segment and makes it again: a reader may have begun it.
        empty = not position.number and not position.stage
        before, self._precedes = self._precedes, bool(files) and files[-1].number < position.segment - empty
        return before and self._precedes  # one listing may miss a file that is renamed meanwhile

    def _read(self, file: SegmentFile, begin: SpoolPosition, most: int) -> SpoolPart:
        """Return a part of a segment after a position; `is_end` states that nothing of it is left.

        Raises:
            DamagedFileError: The segment is damaged.
            SettingsError: A later version of dnstrail made it.
            OSError, sqlite3.Error: It cannot be read.
        """
        path = file.path if file.path.exists() else file.path.with_suffix(FINAL)
        if file.is_aside:
            raise DamagedFileError(path, "it is damaged")
        final = path.suffix == FINAL
        with closing(open_reader(path, SCHEMA, final=final, patience=_PATIENCE)) as database, naming_damage(path):
            status = path.stat()  # a finished file that replaces another one may have its inode, but has a later change
            found = file.number, status.st_ino, status.st_ctime_ns if final else 0
            if found != self._of:
                self._of, self._known = found, _Known()
            database.execute("BEGIN")  # a connection of the part has no answer that is stored after it
            number = self._number(database, begin, path)
            last, read = database.execute(_LAST, (number, most)).fetchone()
            answers, after = self._answers(database, number, last) if read else [], begin
            if read:
                after = SpoolPosition(file.number, last, *_id(database, last), begin.stage, begin.stage_time)
            if read == most:
                return SpoolPart(answers, after, read, 0, 0, is_end=False)
            number = begin.stage if _time_of(database, begin.stage) == begin.stage_time else 0
            last, stages = database.execute(_LAST_STAGE, (number, most)).fetchone()
            uses = self._read_uses(database, number, last) if stages else []
            if stages:
                after = after._replace(stage=last, stage_time=_time_of(database, last))
            return SpoolPart(answers, after, read, 0, 0, is_end=stages < most, uses=uses)

    def _number(self, database: sqlite3.Connection, begin: SpoolPosition, path: Path) -> int:
        """Return the number of the last transaction that was read, 0 if the segment does not have it any more."""
        identity = begin.start, begin.batch, begin.place
        if not begin.number or _id(database, begin.number) == identity:
            return begin.number
        found = database.execute(_NUMBER, identity).fetchone()
        if found is None:
            self.counters["reread"] += 1
            structlog.get_logger().warning("segment_read_again", segment=path.name)
        return int(found[0]) if found else 0

    def _answers(self, database: sqlite3.Connection, begin: int, last: int) -> list[SpooledAnswer]:
        found: list[SpooledAnswer] = []
        contents, of_users = self._known.of_rows, self._of_users
        for ended, name, process, path, answer, ttls, doubted in database.execute(_NEXT, (begin, last)):
            row = name, answer, process, path if of_users else 0
            if row in contents:
                content = contents[row]
            else:
                content = contents[row] = self._content_of(database, *row)
            if content is None:
                self.counters["excluded"] += 1
            else:
                found.append(SpooledAnswer(ended, content, _IDS(ttls), doubted != 0))
        return found

    def _content_of(
        self, database: sqlite3.Connection, name: int, answer: int, process: int | None, path: int
    ) -> AnswerContent | None:
        """Return the content of an answer to a process, which is that of all processes with the same asker."""
        askers, contents = self._known.askers, self._known.contents
        if (process, path) not in askers:
            askers[process, path] = self._asker(database, process, path)
        asker = askers[process, path]
        if asker is None:
            return None
        if (name, answer, asker) not in contents:
            contents[name, answer, asker] = self._content(database, name, asker, answer)
        return contents[name, answer, asker]

    @property
    def _of_users(self) -> bool:
        """Whether users or containers are excluded: the hop of a question counts."""
        return bool(self._excluded.users or self._excluded.containers)

    def _asker(self, database: sqlite3.Connection, process: int | None, path: int) -> _Asker | None:
        """Return an asker, None if it is excluded."""
        found = database.execute(_ASKER, (process,)).fetchone()
        program, container, image, *asker = found or _NOBODY
        if self._of_users:
            [hop] = database.execute(_HOP, (path,)).fetchone()
            if self._excluded.exclude_asker(hop, *asker):
                return None
        return program, container, image

    def _content(self, database: sqlite3.Connection, name: int, asker: _Asker, answer: int) -> AnswerContent | None:
        """Return the content of an answer, None if it is excluded or too long."""
        names, answers = self._known.names, self._known.answers
        if name not in names:
            [names[name]] = database.execute(_TEXT, (name,)).fetchone()
        if answer not in answers:
            answers[answer] = self._relations_of(database, answer)
        question, relations = names[name], answers[answer]
        if relations is None:
            return None
        if self._excluded.names:
            texts = {question, *(text for owner, _, target in relations for text in (owner, target))}
            if any(map(self._excluded.has_text, texts)):
                return None
        return AnswerContent(question, *asker, relations)

    def _relations_of(self, database: sqlite3.Connection, answer: int) -> tuple[Relation, ...] | None:
        """Return the relations of an answer, None if they are too long."""
        packed = database.execute(_ANSWER, (answer, MOST_PACKED)).fetchone()
        if packed is None:
            return None
        numbers, relations = _IDS(packed[0]), self._known.relations
        for number in numbers:
            if number not in relations:
                relations[number] = database.execute(_RELATION, (number,)).fetchone()
        return tuple(relations[number] for number in numbers)

    def _read_uses(self, database: sqlite3.Connection, begin: int, last: int) -> list[SpooledUse]:
        """Return the connections by a name that stages state; those that are excluded are left out."""
        found: list[SpooledUse] = []
        uses = self._known.uses
        for opened, *key in database.execute(_USES, (begin, last)):
            name, process, path = key
            if (name, process, path) not in uses:
                uses[name, process, path] = self._use(database, name, process, path)
            if (content := uses[name, process, path]) is not None:
                found.append(SpooledUse(opened, content))
        return found

    def _use(self, database: sqlite3.Connection, name: int, process: int | None, path: int) -> UseContent | None:
        """Return who connects where and by which name, None if it is excluded."""
        asker = self._asker(database, process, path)
        [text] = database.execute(_TEXT, (name,)).fetchone()
        [destination] = database.execute(_DESTINATION, (path,)).fetchone()
        address = str(ip_address(destination))
        if asker is None or any(map(self._excluded.has_text, (text, address))):
            return None
        return UseContent(*asker, text, address)


def _time_of(database: sqlite3.Connection, number: int) -> int:
    """Return the time of a stage by its number (ns), 0 without one."""
    found = database.execute(_TIME, (number,)).fetchone()
    return int(found[0]) if found else 0


def _id(database: sqlite3.Connection, number: int) -> tuple[str, int, int]:
    """Return the id of a transaction by its number."""
    found: tuple[str, int, int] = database.execute(_ID, (number,)).fetchone() or ("", 0, 0)
    return found
