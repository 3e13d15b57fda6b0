"""The store of the fleet: reads the log as one of a group, writes, and acknowledges."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import structlog

from dnstrail.log_pause import LogPause
from dnstrail.process.clock import Clock
from dnstrail_fleet.log.contract import FleetLog, LogUnavailableError, StreamEntry, StreamLag
from dnstrail_fleet.lookups.contract import StoreUnavailableError
from dnstrail_fleet.lookups.server import FleetServer
from dnstrail_fleet.row import BadEntryError, LaterEntryError, read_entry
from dnstrail_fleet.store.contract import RowStore
from dnstrail_fleet.store.store import ReceivedEntry

_RETRY: Final = 1.0  # seconds after a failure
_LOOK: Final = 1.0  # seconds between two looks at the lag
_CLEAN: Final = 60.0  # seconds between two looks for rows that are too old


def run(
    log: FleetLog,
    store: RowStore,
    clock: Clock,
    stop: threading.Event,
    *,
    server: FleetServer | None = None,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[StoreWorker], None] = lambda _: None,
) -> None:
    """Store the entries of the log until the stop signal is set. `server` answers lookups meanwhile.

    Raises:
        SettingsError: The store is damaged.
        Exception: A lookup could not be answered, by a fault of dnstrail.
    """
    worker = StoreWorker(log, store, clock)
    observe(worker)
    structlog.get_logger().info("ready")
    while not stop.wait(worker.pause):
        beat()
        worker.step()
        if server is not None:
            server.check()
    if server is not None:
        server.close()
    structlog.get_logger().info("stopped", **worker.counters, **store.counters)


class StoreWorker:
    """The state of one run. `fault` states why nothing can be read or written at present, or is "".

    `counters` counts entries that were `refused`, of a later version (`later`), and `failures` of engine and disk.
    `pause` is the time in seconds until the next step.
    """

    def __init__(self, log: FleetLog, store: RowStore, clock: Clock) -> None:
        self.counters: Counter[str] = Counter(refused=0, later=0, failures=0)
        self.fault = ""
        self.pause = 0.0
        self.lag: dict[str, StreamLag] = {}
        self.store = store
        self._log = log
        self._clock = clock
        self._refused: Counter[tuple[str, str]] = Counter()
        self._unwritten: list[StreamEntry] = []  # they would come again ten seconds later
        self._pause_of_log = LogPause()
        self._look = self._clean = float("-inf")
        self._removal: Iterator[int] = iter(())  # one step between two writes
        self._newest = 0  # ms, by the clock of the engine: the latest entry of this run; 0 before the first one

    def step(self) -> None:
        """Read some entries, write them, and acknowledge them.

        Raises:
            SettingsError: The store is damaged.
        """
        try:
            count = self._step(self._clock.monotonic())
        except (LogUnavailableError, StoreUnavailableError) as error:
            self._fail(error.reason, str(error))
        except sqlite3.Error as error:
            self._fail("disk", f"{self.store}: {error}")
        else:
            if self.fault:
                structlog.get_logger().info("fleet_recovered", what=self.fault)
            self.fault = ""
            self.pause = 0.0 if count >= self.store.at_once else self.store.pause

    def _step(self, now: float) -> int:
        entries = self._unwritten = self._unwritten or self._log.read(self.store.at_once)
        if now >= self._look:
            lag = self._log.lag()
            self.store.note_lag({host: one for host, one in lag.items() if self.lag.get(host) != one})
            self.lag, self._look = lag, now + _LOOK
        self._newest = max([self._newest, *(one.at for one in entries)])
        if self._newest and next(self._removal, None) is None and now >= self._clean:
            self._removal = self.store.remove_old(self._time())
            self._clean = now + _CLEAN
        if entries:
            received, done = self._checked(entries)
            self._unwritten = [one._replace(is_again=True) for one in entries]
            self.store.write(received, self._refused, self._time())
            self._refused.clear()
            self._unwritten = []
            self._log.acknowledge(done)
        return len(entries)

    def _time(self) -> float:
        """Return the time by which rows are too old, in seconds since the epoch: that of the newest entry.

        It is not later than the clock of this host, since a host of the fleet may name any time of the engine.
        """
        # A wrong clock of this host removes nothing. Without entries nothing grows old: hosts send some also without
        # rows, so that this lasts only while all of them are silent, and the next entry makes up for it.
        return min(self._clock.wall(), self._newest / 1000)

    def _checked(self, entries: Sequence[StreamEntry]) -> tuple[list[ReceivedEntry], list[StreamEntry]]:
        """Return the entries that are to be written, and those that are to be acknowledged."""
        received: list[ReceivedEntry] = []
        done: list[StreamEntry] = []
        self._refused.clear()  # those that could not be written come again
        now = int(self._clock.wall() * 1000)
        for one in entries:
            try:
                received.append(ReceivedEntry(one.host, one.at, read_entry(one.body, one.host, one.at, now)))
            except BadEntryError as error:
                self.counters["refused"] += 1
                self._refused[one.host, error.reason] += 1
                self._warn("entry_refused", one.host, str(error))
            except LaterEntryError as error:
                self.counters["later"] += not one.is_again
                self._warn("entry_of_later_version", one.host, str(error))
                continue
            done.append(one)
        return received, done

    def _warn(self, event: str, host: str, text: str) -> None:
        if self._pause_of_log.note(self._clock.monotonic()):
            structlog.get_logger().warning(event, host=host, error=text)

    def _fail(self, reason: str, text: str) -> None:
        """Note a failure, with one line for each reason."""
        self.counters["failures"] += 1
        if self.fault != reason:
            structlog.get_logger().warning("fleet_not_stored", reason=reason, error=text)
        self.fault = reason
        self.pause = _RETRY
