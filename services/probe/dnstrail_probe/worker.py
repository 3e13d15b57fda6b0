"""The probe: reads a source and publishes its events in turns, from the first event to the last."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import structlog

from dnstrail.bus import Publisher, Server
from dnstrail.process.clock import StreamClock
from dnstrail.protocol.batch_publisher import BatchPublisher, Losses
from dnstrail.protocol.batches import TURN, UNKNOWN, HostIdentity
from dnstrail.protocol.listener import confirmed
from dnstrail.protocol.losses import LossReporter
from dnstrail.protocol.replay_window import ReplayWindow
from dnstrail_probe.source import Source

HEARTBEAT, HEARTBEAT_OF_FILE = 1.0, 0.1  # seconds between turns when nothing is captured
_ON_REQUEST = 0.01  # seconds between two turns that subscribers asked for
_POLL = 0.005  # seconds of the longest wait for the first event of a turn
_GATHER = 0.01  # seconds for which a turn of a live source gathers events
_MANY = 256  # events of a turn that costs little beside them
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
) -> None:
    """Publish all events of a source until it ends or the stop signal is set.

    The first event is published when `expected` subscribers are there; a live source waits for a bounded time. The last
    turn states that the source has ended. The probe then waits until its subscribers have received this turn: of a file
    for as long as they need, else for LINGER. `beat` is called while the loop runs, and `observe` once before it. At
    `replays`, subscribers that restart ask for the turns that they missed.

    Raises:
        CaptureError: nothing in a capture file could be read.
    """
    probe = _Probe(source, publisher, clock, stop, identity, beat, replays)
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
    ) -> None:
        self._source = source
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

        A turn costs each subscriber more than an event. The events of a live source therefore gather for a moment,
        unless many have arrived at once. A subscriber that waits for an idle turn asks for its end.
        """
        beat = self._clock.monotonic()
        heartbeat = HEARTBEAT if self._source.live else HEARTBEAT_OF_FILE
        while not self._stop.is_set():
            self._beat()
            self._replay()
            looked = self._clock.monotonic()
            captured = self._source.read(_POLL)
            if captured is None:
                return
            for topic, event in captured:
                self._greatest = max(self._greatest, event.timestamp)
                self.batches.add(topic, event)
            idle = self._clock.monotonic() - beat
            if captured or idle >= heartbeat or (idle >= _ON_REQUEST and self._is_awaited):
                self._close_turn()
                self._flush()
                self._publisher.subscribers(TURN)  # lets the bus handle new subscriptions
                beat = self._clock.monotonic()
                self._loss_reporter.note(_flat(losses_of(self._source)), beat)
                if self._source.live and len(captured) < _MANY and beat < looked + _GATHER:
                    self._clock.sleep(looked + _GATHER - beat)

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
