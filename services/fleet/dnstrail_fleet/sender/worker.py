"""The sender of a host: reads its history behind a position of its own, and appends rows to the log."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from dnstrail.history.following import SegmentSpool, SpoolPart
from dnstrail.process.clock import Clock
from dnstrail_fleet.log.contract import FleetLog, LogUnavailableError
from dnstrail_fleet.row import VERSION, FleetEntry, encode_entry
from dnstrail_fleet.sender.state import SenderState
from dnstrail_fleet.sender.totals import MOST_WAITING, RelationTotals, by_asker

COLLECT: Final = 20_000  # new objects after which garbage is looked for: rows make no cycles, failures may
_EVERY: Final = 1.0  # seconds between two entries
_BUDGET: Final = 0.25  # seconds of them for reading
_AT_ONCE: Final = 2_048  # transactions that are read together
_SAVE: Final = 5.0  # seconds between two saves: after a crash, what was read since the last one is read and sent again
_ALIVE: Final = 30.0  # seconds without rows after which an entry states that the host is alive
_POLL: Final = 0.1  # seconds between two looks at the stop signal


def run(
    spool: SegmentSpool,
    log: FleetLog,
    state: SenderState,
    clock: Clock,
    stop: threading.Event,
    *,
    host: str,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[FleetSender], None] = lambda _: None,
) -> None:
    """Send rows until the stop signal is set. `host` is the name of this host in the engine.

    Raises:
        SettingsError: A later version of dnstrail wrote the history, or the state is damaged.
    """
    sender = FleetSender(spool, log, state, clock, host)
    observe(sender)
    structlog.get_logger().info("ready")
    while not stop.wait(_POLL):
        beat()
        sender.step()
    sender.close()
    structlog.get_logger().info("stopped", **sender.counters)


class FleetSender:
    """The state of one run. `fault` states why nothing can be sent or read at present, or is "".

    `counters` counts transactions that were `read`, `rows` and `entries` that were sent, relations that were
    `left_out` since a text is too long, rows of this day that were `forgotten` after they were sent, segments `dropped`
    before they were read, entries that were `repeated` since the engine had lost them, and `failures` of the engine.
    """

    def __init__(self, spool: SegmentSpool, log: FleetLog, state: SenderState, clock: Clock, host: str) -> None:
        """Go on where the last run stopped.

        Raises:
            SettingsError: The state is damaged.
        """
        self.counters: Counter[str] = Counter(read=0, rows=0, entries=0, failures=0)
        self.behind = 0
        self._spool = spool
        self._log = log
        self._state = state
        self._clock = clock
        self._host = host
        self._totals = RelationTotals(state.load())
        self._position = state.position
        self._dropped = state.dropped
        self._next = self._alive = self._save = float("-inf")
        self._faults: dict[str, str] = {}  # by what fails: the engine, the history, the state

    @property
    def fault(self) -> str:
        """Why nothing can be sent or read at present; "" if all is well."""
        return "; ".join(self._faults.values())

    @property
    def waiting(self) -> int:
        """The number of rows that wait to be sent."""
        return self._totals.waiting

    def step(self) -> None:
        """Read and send, once a second. While the engine is away, nothing is read: the history keeps it.

        Raises:
            SettingsError: A later version of dnstrail wrote the history, or the state is damaged.
        """
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        if "engine" not in self._faults:
            self._read(now + _BUDGET)
        self._send(now)
        if now >= self._save:
            self._save = now + _SAVE
            self._store()

    def close(self) -> None:
        """Send what is due, and store the state."""
        self._send(self._clock.monotonic())
        self._store()

    def _read(self, until: float) -> None:
        while self._totals.waiting < MOST_WAITING:
            try:
                part = self._spool.read(self._position, _AT_ONCE)
            except (OSError, sqlite3.Error) as error:
                self._fail("history", "history_not_followed", str(error))
                return
            self._recover("history")
            self._take(part)
            if part.is_end or self._clock.monotonic() >= until:
                return

    def _take(self, part: SpoolPart) -> None:
        for answer in part.answers:
            self._totals.add(answer)
        for use in part.uses:
            self._totals.add_use(*use)
        self.counters["read"] += part.read
        self.counters["left_out"] = self._totals.left_out
        self._position, self.behind = part.position, part.behind
        if part.dropped:
            self._dropped += part.dropped
            self.counters["dropped"] += part.dropped
            structlog.get_logger().warning("segments_not_sent", count=part.dropped)

    def _send(self, now: float) -> None:
        wall = self._clock.wall()
        rows = self._totals.due(wall)
        if not rows and now < self._alive:
            return
        entry = FleetEntry(VERSION, self._host, int(wall * 1000), self.behind, self._dropped, by_asker(rows))
        try:
            self._log.append(encode_entry(entry))
        except LogUnavailableError as error:
            self._totals.put_back(rows)
            self.counters["failures"] += 1
            self._fail("engine", "engine_unavailable", str(error), error.reason)
            return
        self._recover("engine")
        self.counters["repeated"] = self._log.repeated
        self._totals.note_sent(rows, wall)
        self.counters["forgotten"] = self._totals.forgotten
        self._alive = now + _ALIVE
        self.counters["rows"] += len(rows)
        self.counters["entries"] += 1

    def _store(self) -> None:
        totals = self._totals
        if self._position == self._state.position and not totals.changed and not totals.gone:
            return
        try:
            self._state.save(self._position, self._dropped, totals.changed, totals.gone)
        except sqlite3.Error as error:
            self._fail("state", "state_not_stored", str(error))
            return
        totals.note_stored()
        self._recover("state")

    def _fail(self, what: str, event: str, text: str, reason: str = "") -> None:
        """Note what fails, with one line for each reason."""
        before = self._faults.get(what)
        self._faults[what] = reason or text
        if before != self._faults[what]:
            structlog.get_logger().warning(event, reason=reason or what, error=text)

    def _recover(self, what: str) -> None:
        if self._faults.pop(what, None) is not None:
            structlog.get_logger().info("fleet_recovered", what=what)
