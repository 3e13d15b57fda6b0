"""The folder of the history: one open segment, the full ones, and the lives, within their days and bytes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from dnstrail.errors import SettingsError
from dnstrail.history.closing import ASIDE, FINAL, OPEN, set_aside
from dnstrail.history.database import DamagedFileError, naming_damage, open_reader
from dnstrail.history.fact import Fact, FactId, StageFact
from dnstrail.history.known_ids import KnownIds
from dnstrail.history.lives import LIVES
from dnstrail.history.lives_parts import PART, keep_part
from dnstrail.history.open_stages import Carried
from dnstrail.history.segment import (
    MOST_TRANSACTIONS,
    OpenSegment,
    StoredProgress,
    carried_after,
    read_progress,
    restart_of,
)
from dnstrail.history.segment_files import SegmentFile, lives_files, open_segment, segment_files
from dnstrail.history.subjects import Subjects
from dnstrail.image.bounds import SECOND
from dnstrail.log_pause import LogPause
from dnstrail.process.clock import Clock
from dnstrail.process.private_folder import open_private
from dnstrail_history.store.closer import Closer
from dnstrail_history.store.forgetting import REQUEST, fulfil, read_request
from dnstrail_history.store.published_ids import ids_of, published_ids
from dnstrail_history.store.retention import BYTES, DAYS, Retention, remove_segment

#: facts, and relations of them, that wait for a disk to take them -> a further fact is lost: `unwritten`
MOST_WAITING: Final = 32_768
_KNOWN: Final = MOST_TRANSACTIONS  # live facts whose ids are read at the start
_RETRY: Final = 1.0  # seconds between two attempts to write
_ASKED: Final = 1.0  # seconds between two looks for requests to forget
_LOOK: Final = 60.0  # seconds between two looks for what is too old, and between two attempts to finish a segment
_NO_PROGRESS: Final = StoredProgress({})
_EXPECTED: Final = (DamagedFileError, SettingsError, OSError, sqlite3.Error)  # errors of files


class FactStore:
    """Facts on disk, each once. One process at a time uses the folder.

    As long as what is stored cannot be read, facts wait; `progress` is unknown until then.

    `knows_begin`: the facts of the first run of the cache are received from its begin.

    A fact waits until `commit` writes it. `counters` counts facts `stored`, `repeated` (they were stored before) and
    `unwritten` (lost, since too many wait), `write_failures`, files that were `damaged`, segments that were `finished`
    and `removed`, and answered relations whose lives were `lives_left_out`. `fault` states why nothing can be written
    at present.
    """

    def __init__(self, folder: Path, clock: Clock, *, days: float = DAYS, most_bytes: int = BYTES) -> None:
        """Open a folder, or make it.

        Raises:
            SettingsError: It is not private, in use, or was made by a later version of dnstrail.
        """
        self.counters: Counter[str] = Counter(stored=0, repeated=0, unwritten=0)
        self.fault = ""
        self.progress = _NO_PROGRESS
        self.knows_begin = False
        self._folder = folder
        self._clock = clock
        self._waiting: list[Fact | StageFact] = []
        self._weight = 0
        self._known = KnownIds()
        self._number = self._kept = 0  # of the newest segment: its number, and its facts up to its last part
        self._path: Path | None = None  # of the segment to which facts are added; None: a new one is to be made
        self._segment: OpenSegment | None = None  # the same, unless an error closed it
        self._carried: Carried | None = None  # for the next segment; None: the file before it states it
        self._has_begun = False
        self._retry = self._look = self._asked = float("-inf")
        self._unfinished: list[Path] = []  # full segments that are finished at the next look
        self._requests: set[Path] = set()  # to forget, which the thread has
        self._pause = LogPause()
        self._private = open_private(folder, "--folder")
        self._retention = Retention(folder, clock, days, most_bytes)
        self._closer = Closer()
        try:
            self._has_started(clock.monotonic())
        except BaseException:
            self.close()
            raise

    @property
    def waits(self) -> bool:
        """Whether facts wait to be written."""
        return bool(self._waiting)

    def add(self, fact: Fact | StageFact) -> bool:
        """Take a fact; return False if it is lost, or stored already."""
        weight = fact.weight
        if self._known.has(fact.id, fact.stage):
            self.counters["repeated"] += 1
            return False
        if self._weight + weight > MOST_WAITING:
            self.counters["unwritten"] += 1
            return False
        self._known.add(fact.id, fact.stage)
        self._waiting.append(fact)
        self._weight += weight
        return True

    def note_ids_of(self, start: str) -> None:
        """Note the facts of a start that any segment holds, so that none of them is stored again.

        Raises:
            SettingsError: A later version of dnstrail made a segment.
            OSError, sqlite3.Error: One cannot be read.
        """
        if not self._has_begun:
            self._begin()
        for file in segment_files(self._folder):
            if not file.is_aside:
                try:
                    ids = ids_of(file.path, start)
                except DamagedFileError as error:
                    self._set_aside(error)
                    continue
                for identity in ids:
                    self._known.add(identity)

    def commit(self, progress: StoredProgress) -> bool:
        """Write the facts that wait, and how far all are stored; return False if that is not possible now.

        Raises:
            SettingsError: A later version of dnstrail made a file that could not be read before.
        """
        now = self._clock.monotonic()
        if now < self._retry or not self._has_started(now):
            return False
        try:
            self._write(progress)
        except _EXPECTED as error:
            self._fail(error, now)
            return False
        self.fault = ""
        return True

    def step(self) -> None:
        """Remove what is too old or too much, and note which segments are finished.

        Raises:
            SettingsError: A later version of dnstrail made a file that could not be read before.
            Exception: A segment could not be finished by a fault of dnstrail.
        """
        for path, error, left_out, is_part in self._closer.take():
            self.counters["lives_left_out"] += left_out
            if path in self._requests:
                self._forgot(path, error)
            elif error is not None or not is_part:
                self._finished(path, error, is_full=not is_part)
        now = self._clock.monotonic()
        if now >= self._look:
            self._look = now + _LOOK
            for path in self._unfinished:
                self._closer.add(path)
            self._unfinished.clear()
            with suppress(OSError):
                self._retention.apply(self._used())
            self.counters["removed"] = self._retention.removed
        if now >= self._asked and self._has_started(now):
            self._asked = now + _ASKED
            with suppress(OSError):
                for path in {*self._folder.glob(f"*{REQUEST}")} - self._requests:
                    self._forget(path)

    def close(self) -> None:
        """Let another process use the folder. What waits is not written."""
        self._close_segment()
        self._closer.close()
        self._private.close()

    def _finished(self, path: Path, error: Exception | None, *, is_full: bool) -> None:
        """Note what the thread did with a segment; a full one that it could not finish is tried again later."""
        if error is None:
            self.counters["finished"] += 1
            return
        if isinstance(error, DamagedFileError):
            self._set_aside(error)
        elif isinstance(error, _EXPECTED):
            structlog.get_logger().warning("segment_not_finished", segment=path.name, error=str(error))
        else:
            raise error
        if is_full and path.exists():  # else it was removed, or set aside
            self._unfinished.append(path)

    def _forget(self, request: Path) -> None:
        """Let the thread fulfil a request, in the segments up to the present one, which gets no further fact."""
        try:
            subjects = read_request(request)
            if not self.commit(self.progress):
                raise sqlite3.OperationalError(f"facts cannot be written: {self.fault}")
            last = self._begin_without(subjects) - 1
        except _EXPECTED as error:
            self._forgot(request, error)
            return
        for path in self._unfinished:
            self._closer.add(path)
        self._unfinished.clear()
        self._requests.add(request)
        self._closer.add(request, partial(fulfil, subjects=subjects, last=last))

    def _begin_without(self, subjects: Subjects) -> int:
        """Begin a segment that carries no connection that mentions a subject, unless there is one; return its number.

        Raises:
            DamagedFileError: The open segment is damaged.
            SettingsError, OSError, sqlite3.Error: One cannot be written now.
        """
        segment = self._open()
        carried = segment.carried()
        kept = subjects.without(carried.stages)
        if segment.count or len(kept) < len(carried.stages):
            self._carried = Carried(kept, carried.whole and len(kept) == len(carried.stages))
            self._close_segment()
            self._path = None
            if segment.count:
                self._closer.add(segment.path)
            else:
                remove_segment(segment.path)
                self._number -= 1
            self._open()
        return self._number

    def _forgot(self, request: Path, error: Exception | None) -> None:
        """Note what the thread did with a request; one that it could not fulfil is tried again later."""
        self._requests.discard(request)
        if error is None:
            return
        if not isinstance(error, _EXPECTED):
            raise error
        if isinstance(error, DamagedFileError):
            self._set_aside(error)
        self._asked = self._clock.monotonic() + _LOOK
        structlog.get_logger().warning("history_not_forgotten", request=request.name, error=str(error))

    def _has_started(self, now: float) -> bool:
        """Return whether what is stored is known; try to read it if it is not.

        Raises:
            SettingsError: A later version of dnstrail made a file.
        """
        if not self._has_begun and now >= self._retry:
            try:
                self._begin()
            except (OSError, sqlite3.Error) as error:
                self._fail(error, now)
        return self._has_begun

    def _begin(self) -> None:
        """Go on where the earlier process ended.

        Raises:
            SettingsError: A later version of dnstrail made a file.
            OSError, sqlite3.Error: One cannot be read now.
        """
        self._path = None
        files = [file for file in segment_files(self._folder) if not file.is_aside and self._is_sound(file)]
        self._number = max([file.number for file in segment_files(self._folder)] + [*self._merged()], default=0)
        unfinished = [file.path for file in files[:-1] if file.ending == OPEN]
        if files and files[-1].ending == OPEN:
            try:
                self._segment = OpenSegment(files[-1].path)
                self._path = files[-1].path
            except DamagedFileError as error:
                self._set_aside(error)
                files.pop()
        known: list[list[tuple[FactId, str]]] = []
        while files and sum(map(len, known)) < _KNOWN:
            file = files.pop()
            try:
                with naming_damage(file.path), closing(open_segment(file)) as database:
                    ids = published_ids(database)
                    # Unless a newer segment states it.
                    self.progress = read_progress(database) if self.progress == _NO_PROGRESS else self.progress
            except DamagedFileError as error:
                self._set_aside(error)
            else:
                known.append(ids)
        self._known, waiting = KnownIds(), self._waiting
        for ids in reversed(known):
            for identity, stage in ids:
                self._known.add(identity, stage)
        self._waiting, self._weight = [], 0
        for fact in waiting:  # they arrived before it was known which ones are stored
            self.add(fact)
        for path in unfinished:
            self._closer.add(path)
        self._has_begun, self.fault = True, ""

    def _is_sound(self, file: SegmentFile) -> bool:
        """Return whether a segment can be opened, and set it aside if it is damaged."""
        try:
            open_segment(file).close()
        except DamagedFileError as error:
            self._set_aside(error)
            return False
        return True

    def _merged(self) -> Iterator[int]:
        """Return the numbers of the segments whose lives are kept: no other one may have their names."""
        for _, path in lives_files(self._folder):
            if not path.name.endswith(ASIDE):
                try:
                    with naming_damage(path), closing(open_reader(path, LIVES, final=False)) as database:
                        [name] = database.execute("SELECT max(name) FROM segments").fetchone()
                except DamagedFileError as error:
                    self._set_aside(error)
                else:
                    yield int((name or "0").partition("/")[0])

    def _write(self, progress: StoredProgress) -> None:
        """Write what waits; the progress is stored with the last fact.

        Raises:
            DamagedFileError: The segment is damaged.
            SettingsError, OSError, sqlite3.Error: It cannot be written now.
        """
        while self._waiting or progress != self.progress:
            segment = self._open()
            if segment.is_full:
                self._carried = segment.carried()
                self._close_segment()
                self._path = None
                self._closer.add(segment.path)
                continue
            part = self._waiting[: MOST_TRANSACTIONS - segment.count]
            is_last = len(part) == len(self._waiting)
            noted = (progress, restart_of(self.progress, progress)) if is_last else (self.progress,)
            segment.write(part, *noted, now=int(self._clock.wall() * SECOND))
            del self._waiting[: len(part)]
            self._weight -= sum(fact.weight for fact in part)
            self.counters["stored"] += len(part)
            if segment.count >= self._kept + PART:
                self._kept = segment.count
                self._closer.add(segment.path, keep_part)
            if is_last:
                self.progress = progress

    def _open(self) -> OpenSegment:
        """Open the segment that was not full, or a new one."""
        if self._path is None:
            path = self._folder / f"{self._number + 1:010d}{OPEN}"
            self._segment = OpenSegment(path)
            self._number, self._path, self._kept = self._number + 1, path, 0
        segment = self._segment = self._segment or OpenSegment(self._path)
        if segment.is_new:  # also if an error, or the end of a worker, came before this
            before = self._folder / f"{self._number - 1:010d}{FINAL}"
            is_begin = self._number == 1 and self.knows_begin
            segment.carry(self._carried or carried_after(before, is_begin=is_begin), self.progress)
        self._carried = None
        return segment

    def _fail(self, error: Exception, now: float) -> None:
        """Count what prevented the facts from being written, and try again later, from what the file holds."""
        self._close_segment()
        if isinstance(error, DamagedFileError):
            self._set_aside(error)
            return
        self._retry = now + _RETRY
        self.fault = str(error)
        self.counters["write_failures"] += 1
        if self._pause.note(now):
            structlog.get_logger().warning("history_not_written", folder=str(self._folder), error=self.fault)

    def _close_segment(self) -> None:
        if self._segment is not None:
            with suppress(sqlite3.Error):
                self._segment.close()
        self._segment = None

    def _set_aside(self, damaged: DamagedFileError) -> None:
        """Move a damaged file out of the way, and name it."""
        if damaged.path == self._path:
            self._close_segment()
            self._path = self._carried = None
        self.counters["damaged"] += 1
        structlog.get_logger().error("history_damaged", file=str(damaged.path), error=str(damaged))
        with suppress(OSError):
            set_aside(damaged.path)

    def _used(self) -> list[Path]:
        """Return the segments to which facts are added, or may be, and those on which the thread works."""
        used, files = {self._path, *self._closer.pending}, segment_files(self._folder)
        return [one.path for one in files if one.path in used or (one.ending == OPEN and not self._has_begun)]
