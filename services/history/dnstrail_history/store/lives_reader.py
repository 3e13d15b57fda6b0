"""The lives in a folder of the history: those of its years, and of the segments whose lives are not merged yet."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from dnstrail.dns.rdata import ADDRESSES, PTR
from dnstrail_history.store.closing import ASIDE, OPEN
from dnstrail_history.store.database import DamagedFileError, Schema, naming_damage, open_reader
from dnstrail_history.store.lives import LIVES, AskingProgram, RelationLife, lives_of
from dnstrail_history.store.rows import Relation
from dnstrail_history.store.segment import SCHEMA

#: lives that one key has in `dnstrail seen` -> further ones are left out, and the command states it
MOST_LIVES: Final = 20_000
#: names and addresses that `dnstrail seen` follows from a key -> further ones are left out, and the command states it
MOST_KEYS: Final = 256
_DAY: Final = 86_400  # seconds
_LONGEST: Final = 31  # days of a period
_KEYS: Final = "(SELECT texts.id FROM json_each(?) JOIN texts ON text = value)"
_LIVES: Final = """
    WITH RECURSIVE periods(begin) AS (
        SELECT min(day) FROM lives WHERE day >= ?
        UNION ALL SELECT (SELECT min(day) FROM lives WHERE day > begin) FROM periods WHERE begin IS NOT NULL)
    SELECT day, owner.text, type, target.text, program, container, first, last, "end", count, gaps
    FROM periods CROSS JOIN lives {index} ON day = begin AND lives.{side} IN {keys}
    JOIN texts owner ON owner.id = owner JOIN texts target ON target.id = target JOIN askers ON askers.id = asker
    WHERE last >= ? LIMIT ?"""
_SIDES: Final = ("owner", "target")
_OF_YEAR: Final = {
    "owner": _LIVES.format(side="owner", keys=_KEYS, index=""),
    "target": _LIVES.format(side="target", keys=_KEYS, index="INDEXED BY lives_by_target"),
}
_RELATIONS: Final = """
    SELECT relations.id, owner.text, type, target.text
    FROM (SELECT * FROM relations WHERE {} IN (SELECT id FROM texts WHERE text IN (SELECT value FROM json_each(?))))
        relations
    JOIN texts owner ON owner.id = owner JOIN texts target ON target.id = target LIMIT ?"""
_OF_SEGMENT: Final = {side: _RELATIONS.format(side) for side in _SIDES}
_LEAD_NOWHERE: Final = ADDRESSES | {PTR}  # types whose target leads to no further name
_DAMAGE: Final = (
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    msgspec.MsgspecError,
)  # values that no writer stores


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
    """What was found: lives of years, and relations of segments by their ids."""

    lives: dict[tuple[int, Relation, AskingProgram], RelationLife]
    relations: dict[_Segment, dict[int, Relation]]

    @property
    def has_room(self) -> bool:
        """Whether no bound was reached."""
        return max(len(self.lives), *map(len, self.relations.values()), 0) < MOST_LIVES


class SeenLives(NamedTuple):
    """The lives that were found. `is_whole` states that no bound left any out."""

    lives: list[RelationLife]
    is_whole: bool


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
            self._segments = [_Segment(*one) for one in self._open(sorted(folder.glob(f"*{OPEN}")), SCHEMA)]
            self._years = [*self._open_years(sorted(folder.glob("*.lives")))]
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

        Down: its relations, and those of the names to which they lead. Up: the relations that lead to it.

        Raises:
            sqlite3.Error: A file cannot be read.
        """
        found = _Found({}, {segment: {} for segment in self._segments})
        is_whole = True
        for side in _SIDES:
            level, known = {key}, {key}
            while level and is_whole:
                related = self._related(level, side, int(since), found)
                following = {one for one in map(_LEADS[side], related) if one is not None} - known
                level = {*sorted(following)[: MOST_KEYS - len(known)]}
                known |= level
                is_whole = found.has_room and len(level) == len(following)
        lives = [*found.lives.values(), *self._of_segments(found, since)]
        return SeenLives(lives[:MOST_LIVES], is_whole and len(lives) <= MOST_LIVES)

    def _related(self, keys: Iterable[str], side: str, since: int, found: _Found) -> set[Relation]:
        """Find the relations that have these keys on a side, and return them."""
        related: set[Relation] = set()
        texts = json.dumps([*keys])
        for year in self._years:
            with self._naming(year.path):
                day = since // _DAY - _LONGEST
                for row in year.database.execute(_OF_YEAR[side], (day, texts, since, MOST_LIVES)):
                    life = _life(*row)
                    found.lives[life[:3]] = life
                    related.add(life.relation)
        for segment, relations in found.relations.items():
            with self._naming(segment.path):
                for number, *relation in segment.database.execute(_OF_SEGMENT[side], (texts, MOST_LIVES)):
                    relations[number] = msgspec.convert(tuple(relation), Relation)
                    related.add(relations[number])
        return related

    def _of_segments(self, found: _Found, since: float) -> Iterator[RelationLife]:
        """Yield the lives of relations in the segments whose lives no year has."""
        merged = {year.path.stem: year.segments for year in self._years}
        for segment, relations in found.relations.items():
            if not relations:
                continue
            with self._naming(segment.path):
                for life in lives_of(segment.database, relations):
                    year = f"{datetime.fromtimestamp(life.day * _DAY, UTC).year:04d}"
                    if life.last >= since and segment.path.stem not in merged.get(year, ()):
                        yield life

    def _open(self, paths: Iterable[Path], schema: Schema) -> list[tuple[Path, sqlite3.Connection]]:
        """Open files, but those that are damaged or were renamed meanwhile."""
        found: list[tuple[Path, sqlite3.Connection]] = []
        for path in paths:
            with self._naming(path):
                try:
                    found.append((path, self._files.enter_context(closing(open_reader(path, schema, final=False)))))
                except sqlite3.OperationalError:
                    if path.exists():
                        raise
        return found

    def _open_years(self, paths: Iterable[Path]) -> Iterator[_Year]:
        """Open the files of years; each shows one state from now on."""
        for path, database in self._open(paths, LIVES):
            with self._naming(path):
                database.execute("BEGIN")
                names = database.execute("SELECT name FROM segments")
                yield _Year(path, database, frozenset(name for [name] in names))

    @contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        """Name a damaged file, and leave the rest of it out."""
        try:
            with naming_damage(path):
                yield
        except (DamagedFileError, *_DAMAGE) as error:
            self._warn(str(error) if isinstance(error, DamagedFileError) else f"{path}: it is damaged: {error!r}")


def _life(day: int, owner: str, rdtype: int, target: str, program: str, container: str, *numbers: int) -> RelationLife:
    """Return a life.

    Raises:
        ValidationError: No writer of ours stores it.
    """
    return msgspec.convert((day, (owner, rdtype, target), (program, container), *numbers), RelationLife)


def _target_of(relation: Relation) -> str | None:
    """Return the name to which a relation leads down."""
    return None if relation[1] in _LEAD_NOWHERE else relation[2]


def _owner_of(relation: Relation) -> str | None:
    """Return the name from which a relation leads up."""
    return None if relation[1] == PTR else relation[0]


_LEADS: Final = {"owner": _target_of, "target": _owner_of}
