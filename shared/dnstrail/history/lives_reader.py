"""The lives in a folder of the history: those of its years, and of the segments whose lives are not merged yet."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.dns.rdata import ADDRESSES, PTR
from dnstrail.history.closing import ASIDE, OPEN
from dnstrail.history.database import (
    FORBIDDEN,
    LOCKED,
    DamagedFileError,
    Schema,
    is_forbidden,
    is_locked,
    naming_damage,
    open_reader,
)
from dnstrail.history.lives import LIVES, AskingProgram, RelationLife, Seconds, lives_of, year_of
from dnstrail.history.lives_parts import last_of_parts
from dnstrail.history.rows import Relation, Row
from dnstrail.history.segment import SCHEMA

#: lives that one key has in `dnstrail seen` -> further ones are left out, and the command states it
MOST_LIVES: Final = 20_000
#: names and addresses that `dnstrail seen` follows from a key -> further ones are left out, and the command states it
MOST_KEYS: Final = 256
LIVES_OF_YEAR: Final = ".lives"  # the ending of the name of a year
_DAY: Final = 86_400  # seconds
_SECOND: Final = 1_000_000_000  # ns
_LONGEST: Final = 31 + 6  # days of a period: a week belongs to the month of its first day
_KEYS: Final = "(SELECT texts.id FROM json_each(?) JOIN texts ON text = value)"
_LIVES: Final = """
    WITH RECURSIVE periods(begin) AS (
        SELECT min(day) FROM lives WHERE day >= ?
        UNION ALL SELECT (SELECT min(day) FROM lives WHERE day > begin) FROM periods WHERE begin IS NOT NULL)
    SELECT json_group_array(json_array(day, owner, type, target, asker, first, last, "end", count, gaps)) FROM (
        SELECT * FROM periods CROSS JOIN lives {index} ON day = begin AND lives.{side} IN {keys}
        WHERE last >= ? LIMIT ?)"""
_SIDES: Final = ("owner", "target")
_OF_YEAR: Final = {
    "owner": _LIVES.format(side="owner", keys=_KEYS, index=""),
    "target": _LIVES.format(side="target", keys=_KEYS, index="INDEXED BY lives_by_target"),
}
# The numbers of thousands of lives are decoded in half of the time for which SQLite's module makes rows of them.
_STORED = msgspec.json.Decoder(list[tuple[int, int, int, int, int, int, int, int, int, int]]).decode
# Many lives state the same texts and askers: each is read once.
_TEXTS: Final = "SELECT id, text FROM texts WHERE id IN (SELECT value FROM json_each(?))"
_ASKERS: Final = "SELECT id, program, container, user_id FROM askers WHERE id IN (SELECT value FROM json_each(?))"
_RELATIONS: Final = """
    SELECT relations.id, owner.text, type, target.text
    FROM (SELECT * FROM relations WHERE {} IN (SELECT id FROM texts WHERE text IN (SELECT value FROM json_each(?))))
        relations
    JOIN texts owner ON owner.id = owner JOIN texts target ON target.id = target LIMIT ?"""
_OF_SEGMENT: Final = {side: _RELATIONS.format(side) for side in _SIDES}
_LEAD_NOWHERE: Final = ADDRESSES | {PTR}  # types whose target leads to no further name


_MANY: Final = "it has too many relations: some are left out"


class _Year(NamedTuple):
    """The file of a year, and the names of the segments whose lives it has: one state of the file."""

    path: Path
    database: sqlite3.Connection
    segments: frozenset[str]


class _Segment(NamedTuple):
    """An open segment, or one whose lives may not be merged yet."""

    path: Path
    database: sqlite3.Connection


class _Found(NamedTuple):
    """What was found: lives of years, and relations of segments by their ids. `down`: the relations below the key."""

    lives: list[RelationLife]
    relations: dict[_Segment, dict[int, Relation]]
    down: set[Relation]

    @property
    def has_room(self) -> bool:
        """Whether no bound was reached."""
        return max(len(self.lives), *map(len, self.relations.values()), 0) < MOST_LIVES


class SeenLives(NamedTuple):
    """The lives that were found. `is_whole` states that no bound left any out."""

    lives: list[RelationLife]
    is_whole: bool


class FirstAnswer(NamedTuple):
    """When a relation of an owner was answered first in a file (seconds since the epoch), and for which program."""

    first: int
    owner: str
    asker: AskingProgram


class LivesReader:
    """Reads the lives of a folder. Each life is read once, also while its segment is finished.

    It never writes to a file. A damaged file is left out, and `warn` receives its name with the reason.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """Open the files of a folder.

        Raises:
            SettingsError: A later version of dnstrail made one.
            OSError, sqlite3.Error: The folder, or a file, cannot be read.
        """
        self._warn = warn
        self._files = ExitStack()
        try:
            for path in sorted(folder.glob(f"*{ASIDE}")):
                warn(f"{path}: it is damaged, and left out")
            # The segments first: one that is merged after that is in the list of its year, and counts once.
            self._segments = [_Segment(*one) for one in self._open(files_of(folder, (OPEN,), warn), SCHEMA)]
            self._years = [*self._open_years(files_of(folder, (LIVES_OF_YEAR,), warn))]
            self._merged = {year.path.stem: year.segments for year in self._years}
            names = [name for year in self._years for name in year.segments if "/" in name]
            self._after = {one: last_of_parts(names, one.path.stem) for one in self._segments}
        except BaseException:
            self._files.close()
            raise

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._files.close()

    def of(self, key: str, since: float) -> SeenLives:
        """Return the lives since a time (epoch seconds) of the relations that a name or address has, and leads to.

        Down: its relations, and those of the names to which they lead. Up: the relations that lead to it. The times are
        known to the second: all of the second of `since` counts.

        Raises:
            sqlite3.Error: A file cannot be read.
        """
        begin = min(max(int(since), 0), LAST_TIME // _SECOND)
        found = _Found([], {segment: {} for segment in self._segments}, set())
        is_whole = True
        for side in _SIDES:
            level, known = {key}, {key}
            stated: set[Relation] = set()
            while level and is_whole:
                related = self._related(level, side, begin, found)
                stated |= related
                following = {one for one in map(_LEADS[side], related) if one is not None} - known
                level = {*sorted(following)[: MOST_KEYS - len(known)]}
                known |= level
                is_whole = found.has_room and len(level) == len(following)
            found.down.update(stated)
        lives = found.lives
        for segment, relations in found.relations.items():
            if relations:
                lives += (life for life in self._lives_of(segment, relations) if life.last >= begin)
        return SeenLives(lives[:MOST_LIVES], is_whole and len(lives) <= MOST_LIVES)

    def firsts(self) -> Iterator[FirstAnswer]:
        """Yield the first answers of owners and of programs, by file: each of these once at least in each file.

        Raises:
            sqlite3.Error: A file cannot be read.
        """
        for year in self._years:
            with leaving_out_damaged(year.path, self._warn):
                yield from _firsts_of(year.database)
        for segment in self._segments:
            for life in self._lives_of(segment):
                yield FirstAnswer(life.first, life.relation[0], life.asker)

    def _related(self, keys: Iterable[str], side: str, since: int, found: _Found) -> set[Relation]:
        """Find the relations that have these keys on a side, and return them."""
        related: set[Relation] = set()
        texts = json.dumps([*keys])
        for year in self._years:
            with leaving_out_damaged(year.path, self._warn):
                day = since // _DAY - _LONGEST
                stated, lives = _lives_of_year(year.database, _OF_YEAR[side], (day, texts, since, MOST_LIVES))
                if not found.down.isdisjoint(stated):  # aliases in a circle lead up and down
                    lives = [life for life in lives if life.relation not in found.down]
                found.lives.extend(lives)
                related |= stated
        for segment, relations in found.relations.items():
            with leaving_out_damaged(segment.path, self._warn):
                for number, *relation in segment.database.execute(_OF_SEGMENT[side], (texts, MOST_LIVES)):
                    relations[number] = msgspec.convert(tuple(relation), Relation)
                    related.add(relations[number])
        return related

    def _lives_of(self, segment: _Segment, relations: dict[int, Relation] | None = None) -> Iterator[RelationLife]:
        """Yield the lives of a segment that no year has; of these relations alone if given."""
        with leaving_out_damaged(segment.path, self._warn):
            for life in lives_of(
                segment.database,
                relations,
                after=self._after[segment],
                left_out=lambda _: self._warn(f"{segment.path}: {_MANY}"),
            ):
                if segment.path.stem not in self._merged.get(f"{year_of(life):04d}", ()):
                    yield life

    def _open(self, paths: Iterable[Path], schema: Schema) -> list[tuple[Path, sqlite3.Connection]]:
        """Open files, but those that are damaged or were renamed meanwhile."""
        found: list[tuple[Path, sqlite3.Connection]] = []
        for path in paths:
            with leaving_out_damaged(path, self._warn):
                try:
                    found.append((path, self._files.enter_context(closing(open_reader(path, schema, final=False)))))
                except sqlite3.OperationalError:
                    if path.exists():
                        raise
        return found

    def _open_years(self, paths: Iterable[Path]) -> Iterator[_Year]:
        """Open the files of years; each shows one state from now on."""
        for path, database in self._open(paths, LIVES):
            with leaving_out_damaged(path, self._warn):
                database.execute("BEGIN")
                names = database.execute("SELECT name FROM segments")
                yield _Year(path, database, frozenset(name for [name] in names))


def files_of(folder: Path, endings: Sequence[str], warn: Callable[[str], None]) -> list[Path]:
    """Return the files of a folder with an ending, by name. Name what is no regular file: its reader could wait.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:  # of thousands of files few have the ending
        found = sorted(folder / one.name for one in entries if one.name.endswith(tuple(endings)))
    odd = {path for path in found if path.is_symlink() or (path.exists() and not path.is_file())}
    for path in sorted(odd):
        warn(f"{path}: it is no regular file, and left out")
    return [path for path in found if path not in odd]


@contextmanager
def leaving_out_damaged(path: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Name a file that is damaged, forbidden, or was locked for too long, and leave the rest of it out.

    Raises:
        SettingsError: A later version of dnstrail made it.
        sqlite3.Error: It cannot be read.
    """
    try:
        with naming_damage(path):
            yield
    except DamagedFileError as error:
        warn(str(error))
    except sqlite3.OperationalError as error:
        if not is_locked(error) and not is_forbidden(path):
            raise
        warn(f"{path}: {LOCKED if is_locked(error) else FORBIDDEN}")


def _firsts_of(year: sqlite3.Connection) -> Iterator[FirstAnswer]:
    """Yield the first answer of each owner and of each program; a pass over all rows is faster than two groups."""
    owners: dict[int, tuple[int, int, int]] = {}
    askers: dict[int, tuple[int, int, int]] = {}
    for row in year.execute("SELECT first, owner, asker FROM lives"):
        first, owner, asker = row
        if owner not in owners or first < owners[owner][0]:
            owners[owner] = row
        if asker not in askers or first < askers[asker][0]:
            askers[asker] = row
    programs = {number: AskingProgram(*names) for number, *names in year.execute("SELECT * FROM askers")}
    for first, owner, asker in (*owners.values(), *askers.values()):
        msgspec.convert(first, Seconds)
        [text] = year.execute("SELECT text FROM texts WHERE id = ?", (owner,)).fetchone()
        yield FirstAnswer(first, text, programs[asker])


def _lives_of_year(
    year: sqlite3.Connection, statement: str, values: Row
) -> tuple[AbstractSet[Relation], list[RelationLife]]:
    """Return the lives that a statement selects, and their relations.

    Raises:
        LookupError, ValidationError: No writer of ours stores them.
    """
    [packed] = year.execute(statement, values).fetchone()
    found = _STORED(packed)
    numbers = {row[1:4] for row in found}
    ends = {number for owner, _, target in numbers for number in (owner, target)}
    texts: dict[int, str] = dict(_numbered(year, _TEXTS, ends))
    relations = {one: (texts[one[0]], one[1], texts[one[2]]) for one in numbers}
    askers = {number: asker for number, *asker in _numbered(year, _ASKERS, {row[4] for row in found})}
    lives = [
        (day, relations[owner, rdtype, target], askers[asker], first, last, end, count, gaps)
        for day, owner, rdtype, target, asker, first, last, end, count, gaps in found
    ]
    return {*relations.values()}, msgspec.convert(lives, list[RelationLife])


def _numbered(year: sqlite3.Connection, statement: str, numbers: Iterable[int]) -> Iterator[Row]:
    return year.execute(statement, (json.dumps([*numbers]),))


def _target_of(relation: Relation) -> str | None:
    """Return the name to which a relation leads down."""
    return None if relation[1] in _LEAD_NOWHERE else relation[2]


def _owner_of(relation: Relation) -> str | None:
    """Return the name from which a relation leads up."""
    return None if relation[1] == PTR else relation[0]


_LEADS: Final = {"owner": _target_of, "target": _owner_of}
