"""What the history knows: its files are read by threads, a bounded number at a time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from dnstrail.dns.names import lookup_key
from dnstrail.errors import SettingsError
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.history.first_seen import new_since
from dnstrail.history.lives_reader import LivesReader
from dnstrail.history.log.entries import LogEntry
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import LogSelection, first_time, last_time, network_of
from dnstrail.history.relations import SeenRelation, by_relation, cof_row, json_row, new_row
from dnstrail.process.terminal import json_line
from dnstrail.protocol.lookups import BAD_REQUEST, OVERLOADED
from dnstrail_web.errors import NO_HISTORY, ApiError
from dnstrail_web.live_entries import line_with_domain

#: requests that read the history at the same time -> `overloaded`
MOST_READERS: Final = 8
#: domains, programs, resolvers and servers that are new -> the oldest are left out, and the reply has `complete: false`
MOST_NEW: Final = 10_000
#: seconds in which a reader of the log takes nothing -> it is cut short
PATIENCE: Final = 30.0
_CHUNK: Final = 64 << 10  # bytes that are sent at once
_SECOND: Final = 1_000_000_000
_A = TypeVar("_A")
_T = TypeVar("_T")


class PastRecords:
    """The history in a folder; None: there is none. `reading` counts the requests that read it."""

    def __init__(self, folder: Path | None) -> None:
        self.reading = 0
        self._folder = folder
        self._threads = CapacityLimiter(MOST_READERS)

    @property
    def is_kept(self) -> bool:
        """Whether there is a history."""
        return self._folder is not None and os.access(self._folder, os.R_OK | os.X_OK)

    async def seen(self, key: str, since: float) -> tuple[list[dict[str, Any]], bool]:
        """Return the relations of a key, and whether these are all.

        Raises:
            ApiError: the history cannot be read.
        """
        found, is_whole = await self._relations(key, since)
        return [json_row(one) | {"lives": [_life(life) for life in one.lives]} for one in found], is_whole

    async def passive_dns(self, key: str) -> list[str]:
        """Return the relations of a key as lines of the passive DNS common output format.

        Raises:
            ApiError: the history cannot be read.
        """
        found, _ = await self._relations(key, 0)
        return [json_line(cof_row(one)) for one in found]

    async def new(self, since: float) -> str:
        """Return the reply that has what is new since a time (epoch seconds), and from when each kind is known.

        Raises:
            ApiError: the history cannot be read.
        """

        def read(folder: Path) -> str:
            found, begins = new_since(folder, since, _warn)
            rows = [new_row(one) for one in found[-MOST_NEW:]]
            return json_line({"ok": True, "data": rows, "begins": begins, "complete": len(rows) == len(found)})

        return await self.read(read)

    async def read(self, read: Callable[[Path], _T]) -> _T:
        """Return what a function reads from the folder, in a thread.

        Raises:
            ApiError: there is no history, it cannot be read, or too many read it.
        """
        folder = self._enter()
        try:
            return await run_sync(_reading, read, folder, limiter=self._threads)
        finally:
            self.reading -= 1

    async def log(self, asked: dict[str, Any]) -> AsyncIterator[bytes]:
        """Return the entries of the log as lines, in chunks.

        Raises:
            ApiError: there is no history, too many read it, or the selection is none.
        """
        selection, topic = _selection(asked)
        line_of = line_with_domain if asked.get("domain") else json_line
        lines = LogLines(HistoryLog(self._enter(), _warn, topic), selection, asked.get("last"), line_of, self._leave)
        try:
            first = await lines.begin()
        except BaseException:
            lines.stop()
            raise
        return _chunks(lines, first)

    async def _relations(self, key: str, since: float) -> tuple[list[SeenRelation], bool]:
        def read(folder: Path) -> tuple[list[SeenRelation], bool]:
            with LivesReader(folder, _warn) as reader:
                found, is_whole = reader.of(lookup_key(key) or key, since)
            return by_relation(found), is_whole

        return await self.read(read)

    def _leave(self) -> None:
        self.reading -= 1

    def _enter(self) -> Path:
        if self._folder is None or not self.is_kept:
            raise ApiError(NO_HISTORY, "this host keeps no history, or its user is another one: see --folder")
        if self.reading >= MOST_READERS:
            raise ApiError(OVERLOADED, f"{MOST_READERS} readers of the history are the most")
        self.reading += 1
        return self._folder


class LogLines:
    """The lines of a log, which a thread reads no faster than they are sent.

    `leave` is called in the loop at the end of the thread: also if nobody ever takes a line.
    """

    def __init__(
        self,
        log: HistoryLog,
        selection: LogSelection,
        last: int | None,
        line_of: Callable[[LogEntry], str],
        leave: Callable[[], None],
    ) -> None:
        self._leave = leave
        self._log = log
        self._line_of = line_of
        self._selection = selection
        self._last = last
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | ApiError] = asyncio.Queue()
        self._room = threading.Semaphore(2)  # chunks that wait
        self._stopped = False

    async def begin(self) -> bytes:
        """Return the first chunk, b"" if there is none.

        Raises:
            ApiError: the history cannot be read.
        """
        try:
            threading.Thread(target=self._run, name="log", daemon=True).start()
        except RuntimeError as error:  # the system has no further thread
            self._leave()
            raise ApiError(OVERLOADED, "no thread is left") from error
        return await self.next()

    async def next(self) -> bytes:
        """Return the next chunk, b"" at the end.

        Raises:
            ApiError: the history cannot be read.
        """
        chunk = await self._queue.get()
        self._room.release()
        if isinstance(chunk, ApiError):
            raise chunk
        return chunk

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped = True
        self._room.release()

    def _run(self) -> None:
        error: ApiError | None = None
        try:
            _reading(self._send, None)
        except ApiError as found:
            error = found
        except Exception as found:  # noqa: BLE001 - a fault of ours ends the reply, and not the worker
            structlog.get_logger().error("log_failed", error=repr(found))
            error = ApiError("internal", "the log cannot be read")
        self._call(self._queue.put_nowait, b"" if error is None else error)
        self._call(self._leave)

    def _send(self, _: None) -> None:
        """Hand the lines over.

        Raises:
            ApiError: nobody takes them.
        """
        lines: list[str] = []
        size = 0
        with closing(self._entries()) as entries:
            for entry in entries:
                lines.append(self._line_of(entry) + "\n")
                size += len(lines[-1])
                if size >= _CHUNK:
                    self._put("".join(lines).encode())
                    lines, size = [], 0
        if lines:
            self._put("".join(lines).encode())

    def _entries(self) -> Generator[LogEntry, None, None]:
        if self._last is None:
            yield from self._log.read(self._selection)
        else:
            yield from self._log.newest(self._selection, self._last)

    def _put(self, chunk: bytes) -> None:
        if not self._room.acquire(timeout=PATIENCE) or self._stopped:
            raise ApiError(OVERLOADED, "the reader is too slow")
        self._call(self._queue.put_nowait, chunk)

    def _call(self, function: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *values)


async def _chunks(lines: LogLines, first: bytes) -> AsyncIterator[bytes]:
    try:
        chunk = first
        while chunk:
            yield chunk
            chunk = await lines.next()
    finally:
        lines.stop()


def _selection(asked: dict[str, Any]) -> tuple[LogSelection, str]:
    """Return the selection of parameters, and the facts that it selects from."""
    connections = asked.get("connections", False)
    if connections and ("outcome" in asked or "slower" in asked):
        raise ApiError(BAD_REQUEST, "connections goes without outcome and slower")
    try:
        network = None if (text := asked.get("address")) is None else network_of(text)
    except ValueError as error:
        raise ApiError(BAD_REQUEST, "address: an address or a network is expected") from error
    since, until, slower = (asked.get(name) for name in ("since", "until", "slower"))
    waited = None if slower is None else round(slower * _SECOND)
    name, process, container, unit = (asked.get(name) for name in ("name", "process", "container", "unit"))
    times = first_time(since), last_time(until)
    selection = LogSelection(*times, name, process, container, asked.get("outcome", ()), waited, network, unit)
    return selection, NET_CONNECTION if connections else DNS_TRANSACTION


def _reading(read: Callable[[_A], _T], what: _A) -> _T:
    try:
        return read(what)
    except (OSError, sqlite3.Error, SettingsError) as error:
        structlog.get_logger().warning("history_unreadable", error=str(error))
        raise ApiError(NO_HISTORY, "the history cannot be read") from error


def _life(life: Any) -> tuple[int, int, int]:
    return life.first, life.last, life.answers


def _warn(text: str) -> None:
    structlog.get_logger().warning("history_incomplete", reason=text)
