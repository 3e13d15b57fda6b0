"""The worker of the signatures of the fleet: reads entries that the store has, and passes their rows on as events."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from dnstrail.events import Event
from dnstrail.process.clock import Clock
from dnstrail_fleet.log.contract import FleetLog, LogUnavailableError, StreamEntry
from dnstrail_fleet.row import BadEntryError, LaterEntryError, read_entry
from dnstrail_fleet.signatures.events import events_of
from dnstrail_fleet.signatures.source import FleetDataSource

_AT_ONCE: Final = 8  # entries that are read together: another worker gets those that take too long
_POLL: Final = 0.2  # seconds between two reads of an empty log
_RETRY: Final = 1.0  # seconds after a failure
_LOOK: Final = 10.0  # seconds between two looks at what was lost


class EventHandler(Protocol):
    """The engine of signatures. `repeat` announces an event that may come again: its findings keep their ids."""

    def on_event(self, event: Event) -> None:
        """Pass an event to the signatures that select it."""

    def repeat(self, event: Event) -> None:
        """Expect an event again."""

    def close(self) -> None:
        """Close all signatures."""


class Receiver(Protocol):
    """The way of findings. `undelivered` counts those that nobody took."""

    undelivered: int

    @property
    def is_away(self) -> bool:
        """Whether nobody receives them."""

    def close(self) -> None:
        """Count what still waits."""


def run(worker: FleetSignatureWorker, stop: threading.Event) -> None:
    """Handle the entries of the log until the stop signal is set. No error of a signature ends the run."""
    structlog.get_logger().info("ready")
    while not stop.wait(worker.pause):
        worker.beat()
        worker.step()
    worker.close()
    structlog.get_logger().info("stopped", **worker.counters)


class FleetSignatureWorker:
    """The state of one run. All that has to outlive it is in the log and in the store.

    An entry is acknowledged once all its events were handled, and their findings delivered. Otherwise it comes again,
    to any worker: its events have the same ids, and so have their findings. `fault` states why nothing can be handled
    at present, or is "". `counters` counts `entries` and `events` that were handled, entries that were `refused`, those
    that the engine `trimmed` before any worker read them, and `failures` of engine, store and receiver. `pause` is the
    time in seconds until the next step, and `beat` is called before each event.
    """

    def __init__(
        self,
        log: FleetLog,
        engine: EventHandler,
        source: FleetDataSource,
        receiver: Receiver,
        clock: Clock,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.counters: Counter[str] = Counter(entries=0, events=0, refused=0, trimmed=0, failures=0)
        self.fault = ""
        self.pause = 0.0
        self.waiting = 0  # entries, as of the last look
        self._log = log
        self._engine = engine
        self._source = source
        self._receiver = receiver
        self._clock = clock
        self.beat = beat
        self._look = float("-inf")
        self._trimmed_before: int | None = None  # before this run

    def step(self) -> None:
        """Read some entries, and acknowledge each once it is handled; none while nobody takes findings."""
        if self._receiver.is_away:
            self._fail("findings", "nobody receives the findings: is `dnstrail findings` running?")
            return
        try:
            self._note_trimmed(self._clock.monotonic())
            entries = self._log.read(_AT_ONCE)
            for entry in entries:
                if not self._handle(entry):
                    self._fail("store", self._source.failed or "the findings were not delivered")
                    return
                self._log.acknowledge([entry])
                self.counters["entries"] += 1
        except LogUnavailableError as error:
            self._fail(error.reason, str(error))
            return
        self._recover()
        self.pause = 0.0 if entries else _POLL

    def close(self) -> None:
        """Close the signatures."""
        self._engine.close()
        self._receiver.close()

    def _handle(self, entry: StreamEntry) -> bool:
        """Handle an entry; return False if it has to come again."""
        self._source.failed, undelivered = "", self._receiver.undelivered
        for event in self._events_of(entry):
            self.beat()
            self.counters["events"] += 1
            self._engine.repeat(event)
            self._engine.on_event(event)
            if self._source.failed or self._receiver.undelivered > undelivered:
                return False
        return True

    def _events_of(self, entry: StreamEntry) -> list[Event]:
        """Return the events of an entry; none of one that the store refuses."""
        try:
            checked = read_entry(entry.body, entry.host, entry.at, int(self._clock.wall() * 1000))
        except (BadEntryError, LaterEntryError):
            self.counters["refused"] += 1
            return []
        return [*events_of(entry, checked)]

    def _note_trimmed(self, now: float) -> None:
        """Count the entries that the engine trimmed in this run before any worker read them."""
        if now < self._look:
            return
        self._look = now + _LOOK
        lag = self._log.lag()
        self.waiting = sum(one.waiting for one in lag.values())
        trimmed = sum(one.trimmed for one in lag.values())
        if self._trimmed_before is None:
            self._trimmed_before = trimmed
        if (count := trimmed - self._trimmed_before) > self.counters["trimmed"]:
            structlog.get_logger().warning("entries_not_read", count=count - self.counters["trimmed"])
            self.counters["trimmed"] = count

    def _fail(self, reason: str, text: str) -> None:
        """Note a failure, with one line for each reason."""
        self.counters["failures"] += 1
        if self.fault != reason:
            structlog.get_logger().warning("fleet_not_read", reason=reason, error=text)
        self.fault = reason
        self.pause = _RETRY

    def _recover(self) -> None:
        if self.fault:
            structlog.get_logger().info("fleet_recovered", what=self.fault)
        self.fault = ""
