"""The publishing side of batches and turns: collects events by name and flushes them together (DESIGN 3)."""

from __future__ import annotations

from collections import Counter

from dnstrail.bus import Publisher
from dnstrail.captured import Captured
from dnstrail.protocol.batches import TURN, Batch, Turn, encode


class BatchPublisher:
    """The open turn of one probe start. What a lossless publisher does not take at once waits in `flush`."""

    def __init__(self, publisher: Publisher, start: str, *, live: bool) -> None:
        self.start = start
        self.turn = 0
        self._publisher = publisher
        self._live = live
        self._open: dict[str, list[Captured]] = {}
        self._last: dict[str, int] = {}
        self._published: Counter[str] = Counter()
        self._outbox: list[tuple[str, bytes]] = []

    def add(self, topic: str, event: Captured) -> None:
        """Put an event into the open turn."""
        self._open.setdefault(topic, []).append(event)

    def close_turn(self, now: int, counters: Counter[str], *, ended: bool = False) -> None:
        """End the turn: its batches, then the message that ends it, are on their way with the next `flush`."""
        for topic, events in self._open.items():
            sequence = self._last[topic] = self._last.get(topic, -1) + 1
            batch = Batch(self.start, self.turn, sequence, events, dict(self._published))
            self._outbox.append((topic, encode(batch)))
            self._published[topic] += len(events)
        self._open.clear()
        published = dict(self._published)
        end = Turn(self.start, self.turn, dict(self._last), self._live, now, ended, dict(counters), published)
        self._outbox.append((TURN, encode(end)))
        self.turn += 1

    def flush(self) -> bool:
        """Publish what waits; False if some of it still has to wait for a slow subscriber."""
        while self._outbox:
            if not self._publisher.publish(*self._outbox[0]):
                return False
            del self._outbox[0]
        return True
