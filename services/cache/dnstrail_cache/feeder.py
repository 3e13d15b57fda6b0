"""The feeder: applies what probes publish to the state of the cache."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from dnstrail.bus import Subscriber
from dnstrail.captured import Captured
from dnstrail.dns import is_response
from dnstrail.errors import BadMessage
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image.apply import TOPICS as EVENT_TOPICS
from dnstrail.image.apply import apply_event
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.listener import Listener
from dnstrail.protocol.losses import LossReporter
from dnstrail_cache.duplicates import DuplicateFilter
from dnstrail_cache.health import TurnTimes
from dnstrail_cache.state import CacheState

TOPICS = (*EVENT_TOPICS, TURN)
_AT_ONCE = 0.02  # seconds; a batch may hold some hundred events
_MESSAGES_AT_ONCE = 256
_SWEPT_AT_ONCE = 512
_NANOSECONDS = 1_000_000_000


class Feeder:
    """Applies messages of the bus to a state, in the order of their arrival.

    Nothing that a probe sends raises here: a bad message is counted. `report` receives each answer that conflicts with
    another, and its batch.
    """

    def __init__(self, subscriber: Subscriber, state: CacheState, report: Callable[[Captured, Batch], None]) -> None:
        self._subscriber = subscriber
        self._listener = Listener(subscriber)
        self._state = state
        self._report = report
        self._duplicates = DuplicateFilter()
        self._loss_reporter = LossReporter()
        self._losses = -1
        self._silent: set[str] = set()

    def drain(self) -> None:
        """Apply the messages that have arrived, for a bounded time: lookups wait meanwhile."""
        state = self._state
        until = state.clock.monotonic() + _AT_ONCE
        for _ in range(_MESSAGES_AT_ONCE):
            message = self._subscriber.receive()
            if message is None:
                self._note_silence()
                break
            try:
                self._apply(*message)
            except BadMessage:
                state.counters["bad_bus_message"] += 1
            if state.clock.monotonic() >= until:
                break
        self._count_vanished()
        state.image.sweep(state.now, _SWEPT_AT_ONCE)

    def _apply(self, topic: str, body: bytes) -> None:
        if topic == TURN:
            self._end_turn(decode(body, Turn))
        elif topic in EVENT_TOPICS:
            batch = decode(body, Batch)
            self._state.follower.batch(topic, batch)
            self._state.applied += len(batch.events)
            live = self._state.live
            for event in batch.events:
                self._apply_event(topic, event, live, batch)

    def _end_turn(self, turn: Turn) -> None:
        state, was_live = self._state, self._state.live
        state.follower.turn(turn)
        self._listener.turn(turn)
        if turn.live and not was_live:  # the image holds nothing from before the first live turn
            state.image.forget(turn.now / _NANOSECONDS)
        now = state.clock.monotonic()
        earlier = state.turn_times.get(turn.start)
        state.turn_times[turn.start] = TurnTimes(now if earlier is None else earlier.first, now)
        if len(state.turn_times) > len(state.probes):  # the follower has evicted a start
            state.turn_times = {probe.start: state.turn_times[probe.start] for probe in state.probes}
        self._note_losses(turn)
        self._loss_reporter.note(state.follower.lost, now)

    def _apply_event(self, topic: str, event: Captured, live: bool, batch: Batch) -> None:
        state = self._state
        if topic == NET_PACKET_DNS and is_response(event.payload) and self._duplicates.is_copy(event):
            state.counters["copies"] += 1
            return
        outcome = apply_event(state.image, topic, event, live=live)
        if outcome.admitted:  # a response that was not admitted may still match on its other socket
            self._duplicates.note(event)
        if outcome.conflict:
            self._report(event, batch)

    def _note_losses(self, turn: Turn) -> None:
        """Put all parties in doubt after a loss, here or at a probe, and after the start of a probe."""
        state = self._state
        losses = sum(state.follower.lost.values()) + len(state.probes)
        losses += sum(sum(reasons.values()) for probe in state.probes for reasons in probe.lost.values())
        if losses != self._losses:
            self._losses = losses
            state.image.admission.gap(max(turn.now / _NANOSECONDS, state.image.latest))

    def _note_silence(self) -> None:
        if self._listener.idle(self._state.clock.monotonic()):
            self._state.counters["reopened"] += 1

    def _count_vanished(self) -> None:
        silent = set(self._state.silent_probes)
        for start in silent - self._silent:
            self._state.counters["probes_vanished"] += 1
            structlog.get_logger().warning("probe_vanished", start=start)
        self._silent = silent
