"""What is forgotten: a request is a file of the folder. It is removed once no file holds what it names.

A segment or a year that holds some of it is written anew without it, and replaces the old file: SQLite leaves deleted
text in free pages. A reader that has the old file open reads it to its end.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final

import msgspec
import structlog

from dnstrail.captured import LAST_TIME
from dnstrail.errors import SettingsError
from dnstrail.history.closing import ASIDE, FINAL, OPEN, add_indexes
from dnstrail.history.database import naming_damage, open_existing, open_reader
from dnstrail.history.fact import Fact, FactId, StageFact
from dnstrail.history.lives import LIVES
from dnstrail.history.open_stages import Carried, begin_of, carried_stages, ends, restarts_of, states_all
from dnstrail.history.rows import insert, read_facts, read_stages, rows
from dnstrail.history.segment import (
    FORGOTTEN,
    SCHEMA,
    OpenSegment,
    StoredProgress,
    Stretch,
    read_forgotten,
    read_progress,
)
from dnstrail.history.segment_files import segment_files
from dnstrail.history.segment_keys import KEYS, remove_keys, write_keys
from dnstrail.history.subjects import Subjects
from dnstrail.image.bounds import SECOND
from dnstrail.process.private_folder import SAFELY

REQUEST: Final = ".forget"  # the ending of the name of a request
_ASKED: Final = ".asked"  # of a request that is not whole yet
_REMOVED: Final = ".removed"  # of the ids of the facts that a request removes from a segment
_NEW: Final = ".new"  # in the names of the files that are to replace another one
NEAR: Final = 3_600_000_000_000  # ns between two answers that are removed, so that their times are kept as one
_LARGEST: Final = 1 << 16  # bytes of a request
_AT_ONCE: Final = 1024  # facts of a segment that are written at once
_MENTIONED: Final = """
    SELECT EXISTS (SELECT 1 FROM texts WHERE has_text(text))
        OR EXISTS (SELECT 1 FROM programs WHERE has_user(user_id))
        OR EXISTS (SELECT 1 FROM paths WHERE has_packed(source) OR has_packed(destination) OR has_packed(resolver))"""
_OF_USER: Final = "(program <> '' OR user_id <> 0) AND has_user(user_id)"  # else the process is unknown
_LIVES_MENTIONED: Final = f"""
    SELECT EXISTS (SELECT 1 FROM texts WHERE has_text(text))
        OR EXISTS (SELECT 1 FROM askers WHERE {_OF_USER})"""  # noqa: S608 - of this module
_WITHOUT_LIVES: Final = (
    f"DELETE FROM lives WHERE asker IN (SELECT id FROM askers WHERE {_OF_USER})",  # noqa: S608 - of this module
    "DELETE FROM lives WHERE owner IN (SELECT id FROM texts WHERE has_text(text))",
    "DELETE FROM lives WHERE target IN (SELECT id FROM texts WHERE has_text(text))",
    "DELETE FROM askers WHERE id NOT IN (SELECT asker FROM lives)",
    "DELETE FROM texts WHERE id NOT IN (SELECT owner FROM lives UNION SELECT target FROM lives)",
)


def ask_to_forget(folder: Path, subjects: Subjects) -> Path:
    """Put a request into the folder, and return it: the worker, or the next one, fulfils it.

    Raises:
        OSError: It cannot be written.
    """
    while True:
        path = folder / f"{secrets.token_hex(8)}{REQUEST}"
        new = path.with_suffix(_ASKED)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600), "wb") as file:
            file.write(msgspec.json.encode(subjects))
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):  # another request was fulfilled meanwhile
            return new.rename(path)


def read_request(path: Path) -> Subjects:
    """Return what a request names.

    Raises:
        SettingsError: It is no request.
        OSError: It cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | SAFELY), "rb") as file:
        content = file.read(_LARGEST)
    try:
        return msgspec.json.decode(content, type=Subjects)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{path}: no request to forget: {error}") from error


def fulfil(request: Path, subjects: Subjects, last: int) -> None:
    """Remove what a request names from all files up to the segment with the number `last`, and then the request.

    Damaged files that were moved aside are removed: nobody can read what they hold. The files that an interrupted
    request left, and keys without a segment, are removed, too.

    Raises:
        DamagedFileError: A file is damaged.
        SettingsError: A later version of dnstrail made one.
        OSError, sqlite3.Error: One cannot be written now, or is not finished.
    """
    folder = request.parent
    for path in folder.iterdir():
        is_stray = path.suffix == KEYS and not any(path.with_suffix(one).exists() for one in (OPEN, FINAL))
        if is_stray or path.name.endswith((ASIDE, _ASKED)) or _NEW in path.name:
            path.unlink(missing_ok=True)
    files = [file for file in segment_files(folder) if file.number <= last]
    for file in files:
        if file.ending == OPEN:
            raise sqlite3.OperationalError(f"{file.path}: it is not finished")
    # A segment may contain questions for the facts that the one after it loses, and late ones for the one before it.
    removed: dict[int, AbstractSet[FactId]] = {}
    before = _removed_before(request)
    places = range(len(files))
    for beside, in_order in ((1, places[::-1]), (-1, places)):
        for place in in_order:
            number, path = files[place].number, files[place].path
            others = removed.get(place + beside, frozenset()) | before.get(number + beside, frozenset())
            if path.exists() and (others or place not in removed):
                earlier = removed.get(place, frozenset()) | before.get(number, frozenset())
                note = partial(_note_removed, _removed_file(request, number), earlier)
                removed[place] = _without_facts(path, subjects, others, note) | earlier
    for path in folder.glob("*.lives"):
        _without_lives(path, subjects)
    for path in folder.glob(f"{request.stem}-*{_REMOVED}"):
        path.unlink()
    request.unlink()
    structlog.get_logger().info("history_forgotten", facts=sum(map(len, removed.values())))  # without a name


def _removed_file(request: Path, number: int) -> Path:
    """Return the file of the ids of the facts that a request removes from a segment, for a retry."""
    return request.with_name(f"{request.stem}-{number}{_REMOVED}")


def _removed_before(request: Path) -> dict[int, AbstractSet[FactId]]:
    """Return the ids of the facts that an interrupted try removed, or was about to, by the number of their segment."""
    found: dict[int, AbstractSet[FactId]] = {}
    for path in request.parent.glob(f"{request.stem}-*{_REMOVED}"):
        with suppress(OSError, ValueError, msgspec.MsgspecError):  # no file of ours
            ids = msgspec.msgpack.decode(path.read_bytes(), type=frozenset[FactId])
            found[int(path.stem.rpartition("-")[2])] = ids
    return found


def _note_removed(path: Path, earlier: AbstractSet[FactId], ids: AbstractSet[FactId]) -> None:
    """Write the ids of facts to a file, with earlier ones."""
    new = path.with_name(path.name + _NEW)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | SAFELY, 0o600), "wb") as file:
        file.write(msgspec.msgpack.encode([*(earlier | ids)]))
    _put(new, path)


def _without_facts(
    path: Path, subjects: Subjects, others: AbstractSet[FactId], note: Callable[[AbstractSet[FactId]], None]
) -> AbstractSet[FactId]:
    """Write a segment anew without the facts that mention a subject, or were asked for such; return their ids.

    `note` receives them before.
    """
    with closing(open_reader(path, SCHEMA, final=True)) as database, naming_damage(path):
        _add_functions(database, subjects)
        if not others and not database.execute(_MENTIONED).fetchone()[0]:
            return frozenset()
        carried = carried_stages(database)
        removed = subjects.ids_in(chain(carried, _facts(database)), others)
        kept = any(fact.id not in removed for fact in _facts(database))
        if removed:
            note(removed)
        if removed and kept:
            gone = (fact for fact in chain(carried, _facts(database)) if fact.id in removed)
            open_ones = [stage for stage in carried if stage.id not in removed]
            still_carried = Carried(open_ones, states_all(database) and len(open_ones) == len(carried))
            [last] = database.execute("SELECT last FROM extent").fetchone()
            times = _times_of(gone, read_forgotten(database), last)
            rest = (fact for fact in _facts(database) if fact.id not in removed)
            _replace(path, database, rest, still_carried, times)
    if removed and not kept:
        remove_keys(path)
        path.unlink()
    return removed


def _facts(database: sqlite3.Connection) -> Iterator[Fact | StageFact]:
    """Yield the facts of a segment. All at once, they would take hundreds of MiB."""
    yield from read_facts(database)
    yield from read_stages(database)


def _times_of(removed: Iterable[Fact | StageFact], before: Iterable[Stretch], last: int) -> list[Stretch]:
    """Return the times at which answers were live, or connections open, that are removed, or were removed before.

    Near times become one. `last` is the time of the last fact: a connection without an end was open until then.
    """
    times, connections = [*before], dict[FactId, Stretch]()
    for fact in removed:
        if isinstance(fact, StageFact):
            connections[fact.id] = Stretch(begin_of(fact), fact.time if ends(fact) else last)
        elif fact.values.relations:
            longest = max(relation.ttl for relation in fact.values.relations)
            times.append(Stretch(fact.ended, min(fact.ended + longest * SECOND, LAST_TIME)))
    times += connections.values()
    found: list[Stretch] = []
    for since, until in sorted(times):
        if found and since <= found[-1].until + NEAR:
            found[-1] = Stretch(found[-1].since, max(found[-1].until, until))
        else:
            found.append(Stretch(since, until))
    return found


def _replace(
    path: Path,
    database: sqlite3.Connection,
    kept: Iterator[Fact | StageFact],
    carried: Carried,
    forgotten: list[Stretch],
) -> None:
    """Write a segment with some of the facts of another one, and put it in its place."""
    new, status = path.with_suffix(_NEW), path.stat()
    with closing(OpenSegment(new)) as segment:
        segment.carry(carried, StoredProgress({}))
        progress = read_progress(database)._replace(stretch=None)
        while part := [*islice(kept, _AT_ONCE)]:
            segment.write(part, progress)
    with closing(open_existing(new, SCHEMA)) as written:
        written.execute("PRAGMA journal_mode=DELETE")
        written.execute(FORGOTTEN)
        insert(written, "coverage", [*rows(database, "coverage")])
        insert(written, "forgotten", forgotten)
        insert(written, "restarts", [(time,) for time in restarts_of(database)])
        add_indexes(written)
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))  # its age is that of its facts
        remove_keys(path)
        _put(new, path)
        write_keys(path, written)


def _without_lives(path: Path, subjects: Subjects) -> None:
    """Write a year anew without the relations that have a subject, or were answered to one."""
    with closing(open_existing(path, LIVES)) as database, naming_damage(path):
        _add_functions(database, subjects)
        if not database.execute(_LIVES_MENTIONED).fetchone()[0]:
            return
        [mode] = database.execute(
            "PRAGMA journal_mode=DELETE"
        ).fetchone()  # no log of the old file stays beside the new
        if mode != "delete":
            raise sqlite3.OperationalError(f"{path}: a reader still reads it")
        copy, new = path.with_suffix(f"{_NEW}.copy"), path.with_suffix(_NEW)
        for made in (copy, new):  # of this user alone
            os.close(os.open(made, os.O_WRONLY | os.O_CREAT | SAFELY, 0o600))
        database.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy, isolation_level=None)) as database, naming_damage(path):
        _add_functions(database, subjects)
        database.execute("PRAGMA journal_mode=OFF")
        for statement in _WITHOUT_LIVES:
            database.execute(statement)
        database.execute("VACUUM INTO ?", (str(new),))
    copy.unlink()
    _put(new, path)


def _add_functions(database: sqlite3.Connection, subjects: Subjects) -> None:
    database.create_function("has_text", 1, lambda text: subjects.has_text(text or ""), deterministic=True)
    database.create_function("has_user", 1, lambda user: user in subjects.users, deterministic=True)
    database.create_function("has_packed", 1, lambda address: subjects.has_packed(address or b""), deterministic=True)


def _put(new: Path, path: Path) -> None:
    """Put a file in the place of another one, once the disk has it."""
    descriptor = os.open(new, os.O_RDONLY | SAFELY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
