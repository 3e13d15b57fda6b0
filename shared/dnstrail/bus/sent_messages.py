"""The messages that a pusher sent last: a receiver that is killed may not have handled them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

#: seconds for which a sender keeps findings, for a receiver that is started anew -> those that a killed receiver has
#: not written by then are lost
KEPT = 40.0  # a worker that stands still is ended after 30
#: findings that a sender keeps for a receiver that is started anew -> the oldest is dropped
MOST_SENT = 4000  # as many as wait between a pusher and its receiver
MOST_BYTES = 8 << 20  #: bytes of the findings that a sender keeps -> the oldest is dropped


class SentMessages:
    """The messages of the last KEPT seconds, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._messages: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def add(self, body: bytes, now: float) -> None:
        """Add a message that was sent now."""
        self._messages.append((now, body))
        self._bytes += len(body)
        self._expire(now)
        while len(self._messages) > MOST_SENT or self._bytes > MOST_BYTES:
            self._drop()

    def since(self, now: float) -> Iterator[bytes]:
        """Yield the messages that are not too old, in their order."""
        self._expire(now)
        return iter([body for _, body in self._messages])

    def _expire(self, now: float) -> None:
        while self._messages and self._messages[0][0] <= now - KEPT:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= len(self._messages.popleft()[1])
