"""The subscriber's part in the end of a probe: it confirms the last turn, so that the probe knows when to go."""

from __future__ import annotations

from collections import deque

from dnstrail.bus import Publisher, Subscriber
from dnstrail.protocol.batches import Turn

CONFIRMS = "confirms"  # the subscription of a subscriber that confirms the ends of probes
MOST_CONFIRMED = 64


class Listener:
    """Confirms the last turn of each probe start to its probe, by a subscription that names the start.

    Memory is bounded: a subscription beyond MOST_CONFIRMED replaces the oldest.
    """

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._confirmed: deque[str] = deque()
        subscriber.subscribe(CONFIRMS)

    def turn(self, turn: Turn) -> None:
        """Note a turn that was received, and everything before it."""
        if turn.ended and turn.start not in self._confirmed:
            self._confirmed.append(turn.start)
            self._subscriber.subscribe(_confirmation(turn.start))
            if len(self._confirmed) > MOST_CONFIRMED:
                self._subscriber.unsubscribe(_confirmation(self._confirmed.popleft()))


def confirmed(publisher: Publisher, start: str) -> bool:
    """Return whether every subscriber that confirms has received the last turn of a start."""
    return publisher.subscribers(_confirmation(start)) >= publisher.subscribers(CONFIRMS)


def _confirmation(start: str) -> str:
    return f"{CONFIRMS} {start}"
