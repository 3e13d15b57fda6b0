"""Snapshots: the cache saves its state every minute and at its end, and goes on from it when it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, Full, Queue

import structlog

from dnstrail.image.saved import LONGEST_LIFE, SavedRecord, restore, saved_records, without_later
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.state_file import StateHeader, StateRefused, StateWriter, blocks_of, read_state

EVERY = 60.0  #: seconds between the beginnings of two snapshots -> a crash loses later answers, which the probes replay
#: seconds between the beginnings of two snapshots if a probe or the cache has started since -> if both are killed
#: before, nobody counts what is lost
SOON = 10.0  # the file names each probe that may vanish, and a cache may be killed again
AT_ONCE = 0.002  # seconds of one step: events and lookups wait meanwhile
_WAITING = 64  # pieces that wait for a slow disk; beyond them the snapshot pauses
_PATIENCE = 2.0  # seconds for the thread of a snapshot that is abandoned
_LOOK = 0.2  # seconds between two looks of the thread at the stop signal


class Snapshots:
    """The saved state of a cache of live probes, in a file.

    The main loop encodes a few records in each step, and a thread writes them: no disk delays the loop. A root that
    changes meanwhile is saved without its new answers, if it has few of them. `counters` of the state count
    `state_saved` and `state_failed`.
    """

    def __init__(self, path: Path, state: CacheState) -> None:
        self._path = path
        self._state = state
        self._began = state.clock.monotonic()
        self._starts: set[str] = set()  # of probes, in the last snapshot
        self._pieces: Iterator[bytes] | None = None
        self._piece = b""  # is encoded, but the thread has no room for it
        self._writer: _Writer | None = None

    def load(self) -> None:
        """Restore the state of the file. A file that is refused is logged, and the cache begins empty."""
        try:
            found = read_state(self._path)
        except StateRefused as refused:
            self._state.counters["state_refused"] += 1
            structlog.get_logger().warning("state_refused", file=str(refused.path), reason=refused.reason)
            return
        if found is not None:
            header, records = found
            self._starts, self._began = {*header.positions}, self._began - EVERY + SOON
            expired = go_on(self._state, header, records)
            roots = len(self._state.image)
            structlog.get_logger().info("state_restored", records=len(records) - expired, expired=expired, roots=roots)

    @property
    def begins(self) -> bool:
        """Whether the next step begins a snapshot."""
        if self._writer is not None or not self._state.live:
            return False
        passed = self._state.clock.monotonic() - self._began
        return passed >= EVERY or (passed >= SOON and not self._starts >= self._known)

    @property
    def _known(self) -> set[str]:
        return {probe.start for probe in self._state.probes}

    @property
    def encodes(self) -> bool:
        """Whether a snapshot has begun, and the next step encodes further records."""
        return self._pieces is not None

    def step(self) -> None:
        """Encode some records if a snapshot is due or has begun."""
        if self._writer is None:
            if self.begins:
                self._began, self._starts = self._state.clock.monotonic(), self._known
                self._pieces, self._writer = pieces_of(self._state), _Writer(self._path)
            return
        if self._pieces is not None and not self._writer.ended:
            self._encode(self._pieces, self._writer)
        if self._writer.ended:
            self._note(self._writer.error)
            self._pieces, self._piece, self._writer = None, b"", None

    def close(self) -> None:
        """Save the state as it is now, before the cache ends. A cache that heard no live probe keeps the old file."""
        if self._writer is not None:
            self._writer.abandon()
        if self._state.follower.live:
            self._note(save(self._path, pieces_of(self._state), "last"))

    def _encode(self, pieces: Iterator[bytes], writer: _Writer) -> None:
        until = self._state.clock.monotonic() + AT_ONCE
        while self._state.clock.monotonic() < until:
            if self._piece and not writer.offer(self._piece):
                return
            self._piece = b""
            piece = next(pieces, None)
            if piece is None:
                self._pieces = None
                writer.finish()
                return
            self._piece = piece

    def _note(self, error: str) -> None:
        self._state.counters["state_failed" if error else "state_saved"] += 1
        if error:
            structlog.get_logger().error("state_not_saved", file=str(self._path), reason=error)


def pieces_of(state: CacheState) -> Iterator[bytes]:
    """Return the bytes of a file of the present state, in pieces, each made when it is asked for."""
    difference = state.stream.difference()
    forgotten = state.image.forgotten
    groups = state.groups.saved(state.clock.monotonic(), state.clock.wall())
    header = StateHeader(None if forgotten is None else forgotten + difference, state.positions, groups)
    records = _records(state, [*state.image.store.places.roots], difference, state.image.store.answers)
    return blocks_of(header, records)


def go_on(state: CacheState, header: StateHeader, records: Iterable[SavedRecord]) -> int:
    """Restore a saved state, and return how many records have expired.

    The cache counts as live from now on, since only live probes have a state. It knows nothing of the time for which it
    did not run: lookups of the past have `history` false, and all parties are in doubt. Events that the probes have
    published meanwhile are counted as lost, unless they are replayed. A probe that is heard no more has vanished.
    """
    begin_live(state)
    now, difference = state.stream.now(), state.stream.difference()
    expired = restore(state.image, records, -difference)
    if header.forgotten is not None:
        latest = now + LONGEST_LIFE + state.image.bounds.grace_ns  # a wrong clock may have written a later one
        state.image.forget(min(max(now, header.forgotten - difference), latest))
    kept = state.starts.resume({start: position.over for start, position in header.positions.items()})
    state.follower.resume({start: header.positions[start] for start in kept})
    state.groups.resume(header.groups, state.clock.monotonic(), state.clock.wall())
    state.resumed = frozenset(start for start in kept if not header.positions[start].over)
    return expired


def begin_live(state: CacheState) -> None:
    """Note that the stream is live, before anything of it is applied: all parties are in doubt."""
    if not state.live:
        state.begin_live()
        state.begun = state.image.live = True
        state.image.gap(state.now)


def save(path: Path, pieces: Iterable[bytes], ending: str = "new") -> str:
    """Write a file at once, and return why that failed, or ""."""
    writer = None
    try:
        writer = StateWriter(path, ending)
        for piece in pieces:
            writer.write(piece)
        writer.finish()
    except OSError as error:
        if writer is not None:
            writer.abandon()
        return error.strerror or str(error)
    return ""


def _records(state: CacheState, roots: list[str], difference: int, last: int) -> Iterator[SavedRecord]:
    """Yield the records of roots, without the answers after the last one of the header: a probe replays them."""
    for root in roots:
        yield from without_later(saved_records(state.image, root, difference), last)


class _Writer:
    """A thread that writes the pieces of one snapshot. `ended` is true at its end, and `error` states what failed."""

    def __init__(self, path: Path) -> None:
        self.error = ""
        self._path = path
        self._pieces: Queue[bytes | None] = Queue(_WAITING)
        self._whole = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def offer(self, piece: bytes) -> bool:
        """Pass a piece on; return False if there is no room for it."""
        try:
            self._pieces.put_nowait(piece)
        except Full:
            return False
        return True

    def finish(self) -> None:
        """State that there is no further piece."""
        self._whole = True

    def abandon(self) -> None:
        """Remove the new file, and wait a moment for the thread."""
        self._stop.set()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        self.error = save(self._path, self._taken())

    def _taken(self) -> Iterator[bytes]:
        """Yield the pieces until the last one.

        Raises:
            OSError: the snapshot is abandoned.
        """
        while True:
            if self._stop.is_set():
                raise InterruptedError("the snapshot was abandoned")
            whole = self._whole  # before the look: the last piece may come in between
            try:
                piece = self._pieces.get(timeout=0 if whole else _LOOK)
            except Empty:
                if whole:
                    return
                continue
            if piece:
                yield piece
