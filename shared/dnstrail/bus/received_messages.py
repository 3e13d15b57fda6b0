"""The messages that a subscriber has taken from its socket and not handled yet."""

from __future__ import annotations

from collections import deque

MOST_RECEIVED = 128 << 20  # bytes; a flood of 50,000 events a second has 10 MiB a second
OVERHEAD = 512  # bytes that a message costs besides its body


class ReceivedMessages:
    """Messages in their order. Their bytes are bounded, while a socket bounds only the number of its messages."""

    def __init__(self) -> None:
        self._messages: deque[tuple[bytes, bytes]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def has_room(self) -> bool:
        """Whether one more message may be added."""
        return self.size < MOST_RECEIVED

    def add(self, topic: bytes, body: bytes) -> None:
        """Add a message."""
        self._messages.append((topic, body))
        self.size += len(body) + OVERHEAD

    def take(self) -> tuple[bytes, bytes] | None:
        """Take out the oldest message; None if there is none."""
        if not self._messages:
            return None
        topic, body = self._messages.popleft()
        self.size -= len(body) + OVERHEAD
        return topic, body
