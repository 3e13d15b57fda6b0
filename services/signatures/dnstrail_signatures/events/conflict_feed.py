"""The events that the cache itself publishes: `dns_answer_conflict`, each with the mark of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from dnstrail.bus import Bus, Subscriber
from dnstrail.client import LookupClient
from dnstrail.errors import DnstrailError
from dnstrail.events import DNS_ANSWER_CONFLICT, FACT_NAMES
from dnstrail.protocol.batches import Batch, Mark
from dnstrail.protocol.facts import FactFeed

PATIENCE = 1.0  # seconds at the end of a source, for the conflicts and facts that the cache has published
_CONFLICTS, _FACTS = "conflicts_published", "facts_published"  # the counters of the cache
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

    def complete(
        self,
        mark: Mark,
        take: Callable[[], None],
        chosen: Container[str],
        facts: FactFeed | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take all conflicts, and all facts, up to a mark, for a bounded time: `take` handles those that have arrived.

        Only the topics of `chosen` are awaited.
        """
        deadline = monotonic() + PATIENCE
        try:
            published = self._client.ask("stats", after=[mark])["cache"]
        except DnstrailError:
            return
        conflicts = published.get(_CONFLICTS, 0) if DNS_ANSWER_CONFLICT in chosen else 0
        ends = [self.subscriber, *([] if facts is None else [facts.subscriber])]
        learned = published.get(_FACTS, 0) if any(name in chosen for name in FACT_NAMES) else 0
        take()
        while monotonic() < deadline and (
            (self._next or 0) < conflicts or (facts is not None and facts.published < learned)
        ):
            self._bus.wait(*ends, timeout=_LOOK)
            take()
