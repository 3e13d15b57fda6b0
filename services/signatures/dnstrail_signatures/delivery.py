"""The delivery of findings over the bus."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgpack
import structlog

from dnstrail.bus import Pusher

_POLL = 0.1  # seconds between two checks of the stop signal
Deliver = Callable[[dict[str, Any]], None]


def push_to(pusher: Pusher, stop: threading.Event, beat: Callable[[], None] = lambda: None) -> Deliver:
    """Return a function that delivers over the bus. It waits for a slow receiver until the stop signal is set."""

    def deliver(message: dict[str, Any]) -> None:
        body = msgpack.packb(message)
        while not pusher.push(body, wait=_POLL):
            if stop.is_set():
                structlog.get_logger().warning("finding_lost", finding=message.get("eventName"))
                return
            beat()

    return deliver
