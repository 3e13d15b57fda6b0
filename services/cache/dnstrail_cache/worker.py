"""The cache worker: one loop that applies events and answers lookups in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgpack
import structlog

from dnstrail.bus import Bus, Pusher, ServedRequest, Server, Subscriber
from dnstrail.captured import Captured
from dnstrail.events import DNS_ANSWER_CONFLICT, Event
from dnstrail.image import Bounds, Image
from dnstrail.image.admission import Admission
from dnstrail.process.clock import Clock
from dnstrail.protocol.lookups import OVERLOADED, RefusedError, Request, decode_request, encode_data, encode_error
from dnstrail.tracee import event_map
from dnstrail_cache.answers import answer
from dnstrail_cache.pending_lookups import MAX_PARKED, PendingLookup, PendingLookups, is_complete
from dnstrail_cache.state import TOPICS, Feed

PATIENCE = 0.2  # seconds for which a lookup waits for the turns of its events
_POLL = 0.05  # seconds between looks at the stop signal
_SOON = 0.005  # the same while lookups wait
_REQUESTS_AT_ONCE = 256

__all__ = ["TOPICS", "run"]


def run(
    bus: Bus,
    subscriber: Subscriber,
    server: Server,
    clock: Clock,
    bounds: Bounds,
    stop: threading.Event,
    *,
    unmatched: str = "auto",
    pusher: Pusher | None = None,
) -> None:
    """Apply events and answer lookups until the stop signal is set; nothing that a client sends ends it.

    Answers that are in conflict with others are counted, and sent to where findings go.
    """
    image = Image(bounds, Admission(unmatched))
    worker = _Worker(server, Feed(subscriber, image, clock, _report_to(pusher)), clock)
    structlog.get_logger().info("ready", size=bounds.size, grace=bounds.grace)
    while not stop.is_set():
        bus.wait(subscriber, server, timeout=_SOON if len(worker.parked) else _POLL)
        worker.step()
    structlog.get_logger().info("stopped", **worker.feed.image.counters)


def _report_to(pusher: Pusher | None) -> Callable[[Captured, str], None]:
    def report(captured: Captured, host: str) -> None:
        event = Event(DNS_ANSWER_CONFLICT, captured, host_name=host)
        if pusher is not None and not pusher.push(msgpack.packb(event_map(event, parse_arguments=True))):
            structlog.get_logger().warning("conflict_not_delivered")

    return report


class _Worker:
    """The state between two steps of the loop."""

    def __init__(self, server: Server, feed: Feed, clock: Clock) -> None:
        self.feed = feed
        self.parked = PendingLookups()
        self._server = server
        self._clock = clock

    def step(self) -> None:
        """Events first, so that a lookup sees all that came before it; then the lookups."""
        self.feed.drain()
        for waiting, complete in self.parked.ready(self.feed.turns, self._clock.monotonic()):
            self._answer(waiting.served, waiting.request, complete=complete)
        for _ in range(_REQUESTS_AT_ONCE):
            served = self._server.receive()
            if served is None:
                break
            self._serve(served)

    def _serve(self, served: ServedRequest) -> None:
        self.feed.counters["requests"] += 1
        try:
            request = decode_request(served.body)
            complete = is_complete(request, self.feed.turns)
            if complete is None:
                self._park(served, request)
                return
        except RefusedError as refused:
            self._refuse(served, refused)
            return
        self._answer(served, request, complete=complete)

    def _park(self, served: ServedRequest, request: Request) -> None:
        if self.parked.full:
            raise RefusedError(OVERLOADED, f"{MAX_PARKED} lookups wait for their events already")
        self.feed.counters["parked"] += 1
        self.parked.park(PendingLookup(served, request, self._clock.monotonic() + PATIENCE))

    def _answer(self, served: ServedRequest, request: Request, *, complete: bool) -> None:
        if not complete:
            self.feed.counters["incomplete"] += 1
        try:
            served.reply(encode_data(answer(request, self.feed), complete=complete))
        except RefusedError as refused:
            self._refuse(served, refused, complete=complete)

    def _refuse(self, served: ServedRequest, refused: RefusedError, *, complete: bool = True) -> None:
        self.feed.counters[refused.code] += 1
        served.reply(encode_error(refused.code, str(refused), complete=complete))
