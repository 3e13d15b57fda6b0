"""From the bus into the image: batches of payloads, turns, and the clock that they carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dnstrail.bus import Subscriber
from dnstrail.captured import Captured
from dnstrail.dns import is_response
from dnstrail.errors import BadMessage
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Image
from dnstrail.image.apply import TOPICS as TOLD
from dnstrail.image.apply import apply_event
from dnstrail.process.clock import Clock
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.loss_log import LossLog
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail_cache.duplicates import DuplicateFilter
from dnstrail_cache.losses import WorkerLosses

TOPICS = (*TOLD, TURN)
_AT_ONCE = 0.02  # seconds; a batch may hold some hundred events
_MESSAGES_AT_ONCE = 256
_SILENCE = 2.0  # seconds without a turn, whose heartbeat is a tenth of one
_SWEPT_AT_ONCE = 512
_NANOSECONDS = 1_000_000_000


class Feed:
    """Keeps an image in step with what the probes publish; `report` is given the answers in conflict with others."""

    def __init__(
        self, subscriber: Subscriber, image: Image, clock: Clock, report: Callable[[Captured, str], None]
    ) -> None:
        self.image = image
        self._report = report
        self._losses = -1
        self._loss_log = LossLog()
        self.heard = float("-inf")
        self._copies = DuplicateFilter()
        self.missed = WorkerLosses()
        self.turns = TurnFollower(TOLD)
        self.counters: Counter[str] = Counter()
        self._subscriber = subscriber
        self._clock = clock
        self._live = False

    @property
    def now(self) -> float:
        """The clock of the stream: wall time while a live probe is heard, else the greatest stamp so far."""
        return self._clock.wall() if self._live else self.image.latest

    @property
    def status(self) -> str:
        """How it stands: waiting for a probe, silent (one is no longer heard before its end), or ok."""
        probes = self.turns.probes
        if not probes:
            return "waiting"
        ended = all(probe.ended for probe in probes)
        return "silent" if not ended and self._clock.monotonic() - self.heard > _SILENCE else "ok"

    def drain(self) -> None:
        """Apply what has come, for a bounded time so that lookups are answered meanwhile."""
        until = self._clock.monotonic() + _AT_ONCE
        for _ in range(_MESSAGES_AT_ONCE):
            message = self._subscriber.receive()
            if message is None:
                break
            topic, body = message
            try:
                self._apply(topic, body)
            except BadMessage:
                self.counters["bad_bus_message"] += 1
            if self._clock.monotonic() >= until:
                break
        self.image.sweep(self.now, _SWEPT_AT_ONCE)

    def _apply(self, topic: str, body: bytes) -> None:
        if topic == TURN:
            turn = decode(body, Turn)
            self.turns.turn(turn)
            if turn.live and not self._live:  # what was before is not remembered
                self.image.forget(turn.now / _NANOSECONDS)
            self._live = any(probe.live for probe in self.turns.probes)
            self.heard = self._clock.monotonic()
            self._note_losses(turn)
            self._loss_log.note(self.turns.lost, self.heard)
            return
        if topic not in TOLD:
            return
        batch = decode(body, Batch)
        self.turns.batch(topic, batch)
        for event in batch.events:
            self._feed(topic, event, batch.host)

    def _feed(self, topic: str, event: Captured, host: str = "") -> None:
        if topic == NET_PACKET_DNS and is_response(event.payload) and self._copies.is_copy(event):
            self.counters["copies"] += 1
            return
        applied = apply_event(self.image, topic, event, live=self._live)
        if applied.admitted:  # one that was not may be known on its other socket
            self._copies.note(event)
        if applied.conflict:
            self._report(event, host)

    def _note_losses(self, turn: Turn) -> None:
        """What was lost, here or at a probe, and a probe that has started: then queries may have gone unseen."""
        probes = self.turns.probes
        losses = sum(self.turns.lost.values()) + len(probes)
        losses += sum(sum(reasons.values()) for probe in probes for reasons in probe.lost.values())
        if losses != self._losses:
            self._losses = losses
            self.image.admission.gap(max(turn.now / _NANOSECONDS, self.image.latest))
