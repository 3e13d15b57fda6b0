"""The events that the cache itself publishes: `dns_answer_conflict`, each with the mark of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from dnstrail.bus import Bus, Subscriber
from dnstrail.client import LookupClient
from dnstrail.errors import DnstrailError
from dnstrail.protocol.batches import Batch, Mark

PATIENCE = 1.0  # seconds at the end of a source, for the conflicts that the cache has published
_PUBLISHED = "conflicts_published"  # the counter of the cache
_LOOK = 0.01


class ConflictFeed:
    """The subscription of a worker to the conflicts of its cache; their sequence shows what was lost."""

    def __init__(self, bus: Bus, subscriber: Subscriber, client: LookupClient) -> None:
        self.subscriber = subscriber
        self._bus = bus
        self._client = client
        self._next: int | None = None

    def missed(self, batch: Batch) -> int:
        """Note a batch; return how many were lost before it. A cache that has started anew counts from 0."""
        expected, self._next = self._next, batch.sequence + 1
        return 0 if expected is None else max(batch.sequence - expected, 0)

    def complete(self, mark: Mark, take: Callable[[], None], monotonic: Callable[[], float] = time.monotonic) -> None:
        """Take all conflicts up to a mark, for a bounded time: `take` handles those that have arrived."""
        deadline = monotonic() + PATIENCE
        try:
            published = self._client.ask("stats", after=[mark])["cache"].get(_PUBLISHED, 0)
        except DnstrailError:
            return
        take()
        while (self._next or 0) < published and monotonic() < deadline:
            self._bus.wait(self.subscriber, timeout=_LOOK)
            take()
