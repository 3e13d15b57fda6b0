"""How a subscriber listens: it confirms the last turn of a probe, and connects anew after a silence."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import structlog

from dnstrail.bus import Publisher, Subscriber
from dnstrail.bus.remote_host import key_of
from dnstrail.protocol.batches import Turn

CONFIRMS = "confirms"  # the subscription of a subscriber that confirms the ends of probes
MOST_CONFIRMED = 64
#: seconds of the silence of the live probes of one host on the bus -> the subscriber connects anew to this host:
#: `reopened`
SILENCE, LONGEST_SILENCE = 3.5, 64.0
LONGEST_LOOK = 1.5  # seconds, more than an idle worker waits: one that stood still knows nothing of the rest


class _Heard(NamedTuple):
    """A live start that was heard, the silence after which its publisher is connected anew, and when this is."""

    start: str
    patience: float
    due: float


class Listener:
    """Confirms the last turn of each probe start to its probe, by a subscription that names the start.

    Memory is bounded: a subscription beyond MOST_CONFIRMED replaces the oldest.

    The connection to a live probe may break for good, as after a message over the limit of the bus: after SILENCE of a
    host the subscriber connects anew to this host. The probe of a file may be silent for long, and loses nothing.
    """

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._confirmed: deque[str] = deque()
        self._heard: dict[str, _Heard] = {}  # by the key of the host: the last live start
        self._due = math.inf  # nothing of these is due before
        self._time = 0.0  # seconds in which nothing waited to be received
        self._looked = 0.0
        subscriber.subscribe(CONFIRMS)

    def turn(self, turn: Turn) -> None:
        """Note a turn that was received, and everything before it."""
        if turn.live and not turn.ended:
            self._await(turn.start, SILENCE)
        else:
            self._heard.pop(key_of(turn.start), None)
        if turn.ended and turn.start not in self._confirmed:
            self._confirmed.append(turn.start)
            self._subscriber.subscribe(_confirmation(turn.start), turn.start)
            if len(self._confirmed) > MOST_CONFIRMED:
                oldest = self._confirmed.popleft()
                self._subscriber.unsubscribe(_confirmation(oldest), oldest)

    def idle(self, now: float) -> int:
        """Note that nothing waits to be received; return the number of hosts whose silence led to a new connection."""
        self._time += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        if self._time <= self._due:
            return 0
        silent = [heard for heard in self._heard.values() if self._time > heard.due]
        self._due = min((heard.due for heard in self._heard.values() if self._time <= heard.due), default=math.inf)
        for start, patience, _ in silent:
            structlog.get_logger().warning("bus_reopened", start=start, silence=patience)
            self._await(start, min(2 * patience, LONGEST_SILENCE))
            self._subscriber.reopen(start)
        return len(silent)

    def _await(self, start: str, patience: float) -> None:
        """Expect a turn of the host of a start within some time."""
        due = self._time + patience
        self._heard[key_of(start)] = _Heard(start, patience, due)
        self._due = min(self._due, due)


def confirmed(publisher: Publisher, start: str) -> bool:
    """Return whether every subscriber that confirms has received the last turn of a start."""
    return publisher.subscribers(_confirmation(start)) >= publisher.subscribers(CONFIRMS)


def _confirmation(start: str) -> str:
    return f"{CONFIRMS} {start}"
