"""From the bus into the image: batches of payloads, turns, and the clock that they carry."""

from __future__ import annotations

from collections import Counter

from dnstrail.bus import Subscriber
from dnstrail.clock import Clock
from dnstrail.errors import BadMessage
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Image
from dnstrail.turns import TURN, Batch, Turn, Turns, decode

TOPICS = (NET_PACKET_DNS, TURN)
_MESSAGES_AT_ONCE = 8  # a batch may hold some hundred events
_SWEPT_AT_ONCE = 512
_NANOSECONDS = 1_000_000_000


class Feed:
    """Keeps an image in step with what the probes publish."""

    def __init__(self, subscriber: Subscriber, image: Image, clock: Clock) -> None:
        self.image = image
        self.turns = Turns((NET_PACKET_DNS,))
        self.counters: Counter[str] = Counter()
        self._subscriber = subscriber
        self._clock = clock
        self._live = False

    @property
    def now(self) -> float:
        """The clock of the stream: wall time while a live probe is heard, else the greatest stamp so far."""
        return self._clock.wall() if self._live else self.image.latest

    def drain(self) -> None:
        """Apply what has come, up to a bound so that lookups are answered meanwhile."""
        for _ in range(_MESSAGES_AT_ONCE):
            message = self._subscriber.receive()
            if message is None:
                break
            topic, body = message
            try:
                self._apply(topic, body)
            except BadMessage:
                self.counters["bad_bus_message"] += 1
        self.image.sweep(self.now, _SWEPT_AT_ONCE)

    def _apply(self, topic: str, body: bytes) -> None:
        if topic == TURN:
            turn = decode(body, Turn)
            self.turns.turn(turn)
            self._live = any(probe.live for probe in self.turns.probes)
            return
        batch = decode(body, Batch)
        self.turns.batch(topic, batch)
        for event in batch.events:
            self.image.feed(event.timestamp / _NANOSECONDS, event.payload)
