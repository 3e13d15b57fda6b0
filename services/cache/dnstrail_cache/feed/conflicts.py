"""Answers that conflict with others, as events: published for signatures, and sent to the address for findings."""

from __future__ import annotations

import msgpack
import structlog

from dnstrail.bus import Publisher, Pusher
from dnstrail.captured import Captured
from dnstrail.events import DNS_ANSWER_CONFLICT, Event
from dnstrail.protocol.batches import Batch, encode
from dnstrail.tracee import event_map
from dnstrail_cache.state.cache_state import CacheState

PUBLISHED = "conflicts_published"  # the counter that numbers the batches, so that a subscriber detects a loss


class Conflicts:
    """Reports each conflict at once, as a batch of its own with the mark of its answer."""

    def __init__(self, state: CacheState, publisher: Publisher | None, pusher: Pusher | None) -> None:
        self._state = state
        self._publisher = publisher
        self._pusher = pusher

    def report(self, captured: Captured, batch: Batch) -> None:
        """Report an answer that conflicts with another, and arrived in this batch."""
        counters = self._state.counters
        if self._publisher is not None and self._publisher.subscribers(DNS_ANSWER_CONFLICT):
            alone = Batch(batch.start, batch.turn, counters[PUBLISHED], [captured], host=batch.host)
            counters[PUBLISHED] += 1
            self._publisher.publish(DNS_ANSWER_CONFLICT, encode(alone))
        if self._pusher is not None:
            self._push(self._pusher, captured, batch)

    def _push(self, pusher: Pusher, captured: Captured, batch: Batch) -> None:
        difference = self._state.follower.difference(batch.start)
        event = Event(DNS_ANSWER_CONFLICT, captured, host_name=batch.host, difference=difference)
        try:
            body = msgpack.packb(event_map(event, parse_arguments=True))
        except (TypeError, ValueError, OverflowError):  # an address, a time or an argument that no probe of ours sends
            self._state.counters["bad_bus_message"] += 1
            return
        if not pusher.push(body):
            structlog.get_logger().warning("conflict_not_delivered")
