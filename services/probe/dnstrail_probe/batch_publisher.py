"""The publishing side of batches and turns: collects events by name and flushes them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dnstrail.bus import Publisher
from dnstrail.captured import Captured
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail_probe.identity import UNKNOWN, HostIdentity

MOST_EVENTS, MOST_BYTES = 1000, 512 << 10  # of one batch
Losses = dict[str, dict[str, int]]  # hop -> reason -> events lost so far


class BatchPublisher:
    """The open turn of one probe start, and the messages that the bus has not taken yet.

    Invariant: messages leave in the order in which their turns were closed, each exactly once, and no turn number or
    sequence is used twice. A batch has at most MOST_EVENTS events, and payloads of MOST_BYTES unless a single one is
    larger.
    """

    def __init__(self, publisher: Publisher, start: str, *, live: bool, identity: HostIdentity = UNKNOWN) -> None:
        self.start = start
        self.turn = 0
        self._publisher = publisher
        self._live = live
        self._identity = identity
        self._open: dict[str, list[Captured]] = {}
        self._last: dict[str, int] = {}
        self._published: Counter[str] = Counter()
        self._outbox: list[tuple[str, bytes]] = []
        self._last_end = b""

    def add(self, topic: str, event: Captured) -> None:
        """Put an event into the open turn."""
        self._open.setdefault(topic, []).append(event)

    def close_turn(self, now: int, counters: Counter[str], *, lost: Losses | None = None, ended: bool = False) -> None:
        """End the turn. The next `flush` publishes its batches and the message that ends it."""
        for topic, events in self._open.items():
            for part in _parts(events):
                self._outbox.append((topic, encode(self._batch(topic, part))))
                self._published[topic] += len(part)
        self._open.clear()
        self._last_end = encode(self._end(now, counters, lost or {}, ended=ended))
        self._outbox.append((TURN, self._last_end))
        self.turn += 1

    def flush(self) -> bool:
        """Publish the waiting messages; return False if some must wait for a slow subscriber."""
        while self._outbox:
            if not self._publisher.publish(*self._outbox[0]):
                return False
            del self._outbox[0]
        return True

    def repeat_end(self) -> None:
        """Publish the message that ended the last turn again: a subscriber may have had no room for it."""
        self._publisher.publish(TURN, self._last_end)

    def _batch(self, topic: str, events: list[Captured]) -> Batch:
        sequence = self._last[topic] = self._last.get(topic, -1) + 1
        return Batch(
            start=self.start,
            turn=self.turn,
            sequence=sequence,
            events=events,
            before=dict(self._published),
            host=self._identity.host,
        )

    def _end(self, now: int, counters: Counter[str], lost: Losses, *, ended: bool) -> Turn:
        return Turn(
            start=self.start,
            turn=self.turn,
            last=dict(self._last),
            live=self._live,
            now=now,
            ended=ended,
            counters=dict(counters),
            published=dict(self._published),
            lost=lost,
            host=self._identity.host,
            machine_id=self._identity.machine_id,
        )


def _parts(events: list[Captured]) -> Iterator[list[Captured]]:
    """Yield the events in parts that fit into a batch each."""
    part: list[Captured] = []
    size = 0
    for event in events:
        if part and (len(part) == MOST_EVENTS or size + len(event.payload) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.payload)
    yield part
