"""The findings of a worker: their ids, and their way to the receiver."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec
import structlog

from dnstrail.bus import Pusher
from dnstrail.events import Event
from dnstrail.signature import Finding

MOST = 4096  # events whose reports are counted
_BYTES = 16


class FindingIds:
    """Numbers the reports of a signature for one event, which the id contains. An event that is too old begins anew."""

    def __init__(self) -> None:
        self._reports: OrderedDict[str, Counter[tuple[str, ...]]] = OrderedDict()  # by the id of their event

    def of(self, finding: Finding) -> str:
        """Return the id of a finding."""
        event = finding.event
        one, reported = finding.metadata, event.id or str(event.timestamp)
        key = one.id, one.name, event.event_name  # the rules of a signature report under names of their own
        reports = self._reports.setdefault(reported, Counter())
        number = reports[key]
        reports[key] += 1
        self._reports.move_to_end(reported)
        if len(self._reports) > MOST:
            self._reports.popitem(last=False)
        text = "\0".join((*key, reported, str(number)))
        return blake2b(text.encode(errors="replace"), digest_size=_BYTES).hexdigest()

    def repeat(self, event: Event) -> None:
        """Begin the numbers of the reports for an event anew: it is handled again."""
        self._reports.pop(event.id, None)


_POLL = 0.1  # seconds between two checks of the stop signal
_pack = msgspec.msgpack.Encoder().encode
Deliver = Callable[[dict[str, Any]], None]
Offer = Callable[[dict[str, Any]], bool]


class NotDeliveredError(Exception):
    """The worker ends, and the receiver has no room."""


class Delivery:
    """The way of findings to their receiver.

    `deliver` waits for the receiver, or raises NotDeliveredError. `offer` never waits, and returns False if the
    receiver has no room; messages of a live source take it, if there is one. `waiting` returns the number of messages
    that wait for a receiver that is away, `connected` whether one is there. `undelivered` counts findings for which
    there was no room, or that still waited when the delivery was closed; a signal is none. `failed` is the error
    of stdout, after which the worker ends.
    """

    def __init__(
        self,
        deliver: Deliver,
        offer: Offer | None = None,
        waiting: Callable[[], int] = lambda: 0,
        connected: Callable[[], bool] = lambda: True,
    ) -> None:
        self.undelivered = 0
        self.failed: OSError | None = None
        self._deliver = deliver
        self._offer = offer
        self._waiting = waiting
        self._connected = connected

    def send(self, message: dict[str, Any], *, live: bool) -> None:
        """Deliver a message; for a live source without waiting."""
        if self._offer is None or not live:
            try:
                self._deliver(message)
            except NotDeliveredError:
                self.undelivered += "eventName" in message
            except OSError as error:
                self.failed = error
                self.undelivered += "eventName" in message
        elif not self._offer(message):
            self.undelivered += "eventName" in message

    @property
    def is_away(self) -> bool:
        """Whether nobody receives messages at present."""
        return not self._connected()

    def close(self) -> None:
        """Count what still waits: nobody sends it once the worker has ended."""
        self.undelivered += self._waiting()


def delivery_over(pusher: Pusher, stop: threading.Event, beat: Callable[[], None]) -> Delivery:
    """Return the way of findings over the bus."""
    push = push_to(pusher, stop, beat)
    return Delivery(push, offer_to(pusher), lambda: pusher.waiting, lambda: pusher.connected)


def push_to(pusher: Pusher, stop: threading.Event, beat: Callable[[], None] = lambda: None) -> Deliver:
    """Return a function that delivers over the bus. It waits for a slow receiver, and gives up once `stop` is set."""

    def deliver(message: dict[str, Any]) -> None:
        body = _pack(message)
        while not pusher.push(body, wait=_POLL):
            if stop.is_set():
                structlog.get_logger().warning("finding_lost", finding=message.get("eventName"))
                raise NotDeliveredError
            beat()

    return deliver


def offer_to(pusher: Pusher) -> Offer:
    """Return a function that delivers over the bus without waiting; it returns False if the receiver has no room."""
    return lambda message: pusher.push(_pack(message))
