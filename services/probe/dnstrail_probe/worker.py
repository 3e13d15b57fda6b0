"""The probe: reads a source and publishes its events in turns, from the first event to the last."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import structlog

from dnstrail.bus import Bus, Publisher, Server
from dnstrail.process.clock import StreamClock
from dnstrail.protocol.batch_publisher import BatchPublisher, Losses
from dnstrail.protocol.batches import TURN, UNKNOWN, HostIdentity
from dnstrail.protocol.listener import confirmed
from dnstrail.protocol.losses import LossReporter
from dnstrail.protocol.replay_window import ReplayWindow
from dnstrail_probe.source import Captures, NamesContainers, Source

HEARTBEAT, HEARTBEAT_OF_FILE = 1.0, 0.1  # seconds between turns when nothing is captured
_ON_REQUEST = 0.01  # seconds between two turns that subscribers asked for
_POLL = 0.005  # seconds of the longest wait for the first event of a turn, if the source has no descriptor
_GATHER, _LONGEST_GATHER = 0.01, 0.05  # seconds for which a turn of a live source gathers events
_ENOUGH = 20  # events for which it gathers for no longer than the shortest time
_MANY = 256  # events that end a turn at once
#: seconds for which the events of a turn wait for the name of a container that has just begun -> they have no name
NAME_WAIT = 0.2
_MOST_HELD = 4096  # events of a turn that waits for a name
_PATIENCE = 10.0  # seconds for which a live source waits for its subscribers
_SETTLE = 0.05  # seconds between two counts of the subscribers
_AGAIN = 0.1  # seconds before the last turn is offered again
_REST = 0.005  # seconds before a message that the bus refused is offered again
#: seconds for which an ending probe waits for its subscribers -> it ends without them, and logs `not_handed_over`; a
#: file waits unless it is stopped
LINGER = 2.0


def run(
    source: Source,
    publisher: Publisher,
    clock: StreamClock,
    stop: threading.Event,
    expected: int,
    identity: HostIdentity = UNKNOWN,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[Source, BatchPublisher], None] = lambda _source, _batches: None,
    replays: Server | None = None,
    bus: Bus | None = None,
) -> None:
    """Publish all events of a source until it ends or the stop signal is set.

    The first event is published when `expected` subscribers are there; a live source waits for a bounded time. The last
    turn states that the source has ended. The probe then waits until its subscribers have received this turn: of a file
    for as long as they need, else for LINGER. `beat` is called while the loop runs, and `observe` once before it. At
    `replays`, subscribers that restart ask for the turns that they missed. With `bus`, events and requests end a wait.

    Raises:
        CaptureError: nothing in a capture file could be read.
    """
    probe = _Probe(source, publisher, clock, stop, identity, beat, replays, bus)
    observe(source, probe.batches)
    probe.await_subscribers(expected)
    probe.begin()
    probe.publish_all()
    probe.end()


class _Probe:
    """One run over a source: its open turn, the greatest time stamp so far, and the losses that were logged."""

    def __init__(
        self,
        source: Source,
        publisher: Publisher,
        clock: StreamClock,
        stop: threading.Event,
        identity: HostIdentity,
        beat: Callable[[], None],
        replays: Server | None,
        bus: Bus | None,
    ) -> None:
        self._source = source
        self._bus = bus
        self._publisher = publisher
        self._stream = clock
        self._clock = clock.clock
        self._stop = stop
        self._beat = beat
        self.batches = BatchPublisher(publisher, identity.new_start(), live=source.live, identity=identity)
        self._replays = replays
        if replays is not None:
            self.batches.window = ReplayWindow(self.batches.start)
        self._greatest = 0
        self._open = 0  # events of the open turn
        self._began = 0.0  # when the open turn began: when the last events of the turn before were read
        self._looked = 0.0  # when the source was read
        self._before = 0  # events of the last turn
        self._until = 0.0  # when the open turn ends if it has events: before, they gather
        self._names = source.names if isinstance(source, NamesContainers) else None
        self._begun = source.begun if isinstance(source, NamesContainers) else None
        self._held = False  # the open turn waits for the name of a container
        self._first = 0.0  # when the first event of the open turn was read
        self._loss_reporter = LossReporter()
        self._log = structlog.get_logger()

    def await_subscribers(self, expected: int) -> None:
        """Wait for subscribers: for a file until they are there, for a live source a bounded time."""
        deadline = self._clock.monotonic() + _PATIENCE if self._source.live else float("inf")
        while self._publisher.subscribers(TURN) < expected and self._clock.monotonic() < deadline:
            self._beat()
            if self._stop.wait(_SETTLE):
                return

    def begin(self) -> None:
        """Publish an empty turn, so that subscribers learn of the start before its first event."""
        self._close_turn()
        self.batches.flush()
        if not self._source.live:
            self._stop.wait(HEARTBEAT_OF_FILE)
        subscribers = self._publisher.subscribers(TURN)
        self._log.info("ready", source=self._source.name, subscribers=subscribers, start=self.batches.start)

    def publish_all(self) -> None:
        """Publish every event until the source ends or the stop signal is set, with a heartbeat when it is idle.

        A turn costs each subscriber more than an event. The events of a live source therefore gather for a moment, and
        for longer while they are few: as many as came last, and the first one after a pause does not wait. Many events,
        or a subscriber that waits for the end of the turn, end it earlier.
        """
        self._began = self._looked = self._clock.monotonic()
        while not self._stop.is_set():
            self._beat()
            self._replay()
            captured = self._read()
            if captured is None:
                return
            for topic, event in captured:
                self._greatest = max(self._greatest, event.timestamp)
                self.batches.add(topic, event)
            if captured and not self._open:
                self._first = self._looked
            self._open += len(captured)
            if self._is_due:
                self._held = self._waits_for_names
                if not self._held:
                    self._publish_turn()

    def _read(self) -> Captures | None:
        """Return the events that have arrived; wait for the first of a turn, or while the events of a turn gather."""
        if self._held:
            self._rest(_POLL)
            return self._look(0.0)
        captured: Captures | None = []
        if self._source.live and self._before >= _MANY:
            captured = self._look(0.0)
        if captured != []:
            return captured
        if not self._source.live:
            return self._look(_POLL)
        now = self._clock.monotonic()
        if self._open or now < self._until:
            self._gather(self._until)
        elif self._is_awaited and self._bus is not None:
            self._gather(self._began + _ON_REQUEST)
        elif self._bus is None or self._source.descriptor is None:
            return self._look(_POLL)
        else:
            longest = max(self._began + HEARTBEAT - now, 0.0)
            self._bus.wait(*self._requests, timeout=longest, file=self._source.descriptor)
            self._replay()
        return self._look(0.0)

    def _look(self, timeout: float) -> Captures | None:
        self._looked = self._clock.monotonic()
        return self._source.read(timeout)

    def _gather(self, end: float) -> None:
        """Let events gather until a time, but serve the requests that arrive meanwhile: one for the turn ends this.

        A container that begins ends it, too: its runtime forgets a short one soon.
        """
        on_request = self._began + _ON_REQUEST
        while (left := (min(end, on_request) if self._is_awaited else end) - self._clock.monotonic()) > 0:
            if self._rest(left):
                return

    def _rest(self, seconds: float) -> bool:
        """Wait for a time, or until something happens; serve a request that has arrived. Return whether it happened."""
        if self._bus is None:
            self._clock.sleep(seconds)
            return True
        happened = self._bus.wait(*self._requests, timeout=seconds, file=self._begun)
        self._replay()
        return happened

    @property
    def _requests(self) -> tuple[Server, ...]:
        return () if self._replays is None else (self._replays,)

    @property
    def _is_due(self) -> bool:
        """Whether the open turn is to end now."""
        now = self._clock.monotonic()
        if not self._source.live:
            return self._open > 0 or now >= self._began + HEARTBEAT_OF_FILE
        if self._is_awaited and now >= self._began + _ON_REQUEST:
            return True
        if not self._open:
            return now >= self._began + HEARTBEAT
        return self._open >= _MANY or now >= self._until

    @property
    def _waits_for_names(self) -> bool:
        """Whether an event of the open turn is to wait for the name of its container."""
        if self._names is None or self._open >= _MOST_HELD:
            return False
        in_time = self._clock.monotonic() < self._first + NAME_WAIT
        return in_time and any(map(self._names.is_awaited, self.batches.nameless))

    def _publish_turn(self) -> None:
        self._close_turn()
        self._flush()
        self._publisher.subscribers(TURN)  # lets the bus handle new subscriptions
        now = self._clock.monotonic()
        began = self._looked if self._open else now
        if self._open:
            gathers = _ENOUGH * (began - self._began) / self._open
            self._until = began + min(max(gathers, _GATHER), _LONGEST_GATHER)
        self._before, self._open, self._began = self._open, 0, began
        self._loss_reporter.note(_flat(losses_of(self._source)), now)

    def end(self) -> None:
        """Publish the last turn, wait until it was received, and log how the source ended."""
        self._close_turn(ended=True)
        if not self._linger():
            self._log.warning("not_handed_over", events_at_most=self.batches.on_way, start=self.batches.start)
        if self._source.damage:
            self._log.warning(self._source.damage, source=self._source.name, published="everything before the damage")
        self._log.info("source_ended", source=self._source.name, turns=self.batches.turn, **self._source.counters)

    def _linger(self) -> bool:
        """Wait until all subscribers that confirm have the last turn; offer it again to those that had no room.

        Return whether they have it.
        """
        patient = not self._source.live and not self._stop.is_set()
        deadline = beat = self._clock.monotonic()
        deadline += LINGER
        while not (handed_over := self.batches.flush() and confirmed(self._publisher, self.batches.start)):
            now = self._clock.monotonic()
            if patient and not self._stop.is_set():
                deadline = now + LINGER
            elif now >= deadline:
                break
            elif self._publisher.overflowed and now - beat >= _AGAIN:
                self.batches.repeat_end()
                beat = now
            self._clock.sleep(_REST)
        if not patient or self._stop.is_set():
            self._publisher.linger(max(deadline - self._clock.monotonic(), 0.0))
        return handed_over

    def _close_turn(self, *, ended: bool = False) -> None:
        live, counters = self._source.live, self._source.counters
        if self._names is not None:
            self.batches.name_containers(self._names.known)
        of_bus = {
            "subscribers_disconnected": self._publisher.disconnected,
            "subscribers_refused": self._publisher.refused + (self._replays.refused if self._replays else 0),
        }
        if self.batches.window is not None:
            of_bus["replay_evicted"] = self.batches.window.evicted
        if any(of_bus.values()):
            counters = counters + Counter(of_bus)
        self.batches.close_turn(
            self._stream.now() if live else self._greatest,
            counters,
            lost=losses_of(self._source),
            lost_by_cgroup=self._source.lost_by_cgroup,
            ended=ended,
            difference=self._stream.difference() if live else 0,
            closed=self._clock.monotonic(),
        )

    @property
    def _is_awaited(self) -> bool:
        return self.batches.window is not None and self.batches.window.awaited

    def _replay(self) -> None:
        if self._replays is not None and self.batches.window is not None:
            self.batches.window.serve(self._replays)

    def _flush(self) -> None:
        """Publish until the bus has taken everything, with a rest after each refusal: a bus may refuse at once."""
        while not self.batches.flush() and not self._stop.wait(_REST):
            pass


def losses_of(source: Source) -> Losses:
    """Return the events that a source has lost so far: hop -> reason -> count, without the reasons that are 0."""
    lost: Losses = {}
    for reason, hop in source.losses.items():
        if count := source.counters[reason]:
            lost.setdefault(hop, {})[reason] = count
    return lost


def _flat(losses: Losses) -> dict[str, int]:
    return {reason: count for reasons in losses.values() for reason, count in reasons.items()}
