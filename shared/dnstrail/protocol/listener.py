"""How a subscriber listens: it confirms the last turn of a probe, and connects anew after a silence."""

from __future__ import annotations

from collections import deque

import structlog

from dnstrail.bus import Publisher, Subscriber
from dnstrail.protocol.batches import Turn

CONFIRMS = "confirms"  # the subscription of a subscriber that confirms the ends of probes
MOST_CONFIRMED = 64
SILENCE, LONGEST_SILENCE = 3.5, 64.0  # seconds without a turn of a live probe, doubling from the first to the second
LONGEST_LOOK = 0.5  # seconds: a subscriber that stood still longer knows nothing of the rest


class Listener:
    """Confirms the last turn of each probe start to its probe, by a subscription that names the start.

    Memory is bounded: a subscription beyond MOST_CONFIRMED replaces the oldest.

    The connection to a live probe may break for good, as after a message over the limit of the bus: after SILENCE the
    subscriber connects anew. The probe of a file may be silent for long, and loses nothing.
    """

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._confirmed: deque[str] = deque()
        self._live = False
        self._silent = 0.0
        self._patience = SILENCE
        self._looked = 0.0
        subscriber.subscribe(CONFIRMS)

    def turn(self, turn: Turn) -> None:
        """Note a turn that was received, and everything before it."""
        self._live = turn.live and not turn.ended
        self._silent, self._patience = 0.0, SILENCE
        if turn.ended and turn.start not in self._confirmed:
            self._confirmed.append(turn.start)
            self._subscriber.subscribe(_confirmation(turn.start))
            if len(self._confirmed) > MOST_CONFIRMED:
                self._subscriber.unsubscribe(_confirmation(self._confirmed.popleft()))

    def idle(self, now: float) -> bool:
        """Note that nothing waits to be received; return whether the silence led to a new connection."""
        self._silent += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        if not self._live or self._silent <= self._patience:
            return False
        structlog.get_logger().warning("bus_reopened", silence=self._patience)
        self._silent, self._patience = 0.0, min(2 * self._patience, LONGEST_SILENCE)
        self._subscriber.reopen()
        return True


def confirmed(publisher: Publisher, start: str) -> bool:
    """Return whether every subscriber that confirms has received the last turn of a start."""
    return publisher.subscribers(_confirmation(start)) >= publisher.subscribers(CONFIRMS)


def _confirmation(start: str) -> str:
    return f"{CONFIRMS} {start}"
