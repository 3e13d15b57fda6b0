"""The replies that clients have not read yet: their bytes are bounded for each client, and in all."""

from __future__ import annotations

from collections import deque

import zmq

LONG = 8192  # bytes; the high-water mark bounds shorter replies, which are copied: that costs less than a tracker
MOST_UNREAD = 64 << 20  #: bytes of replies above 8 KiB that all clients have not read -> `overloaded`
MOST_UNREAD_OF_CLIENT = 16 << 20  #: bytes of replies above 8 KiB that one client has not read -> `overloaded`


class UnreadReplies:
    """The long replies that the bus still holds, by client.

    A client that has read everything may receive one reply of any size.
    """

    def __init__(self) -> None:
        self._of_client: dict[bytes, deque[tuple[int, zmq.MessageTracker]]] = {}

    def has_room(self, client: bytes, size: int) -> bool:
        """Return whether a long reply keeps within the bounds."""
        self._forget_read()
        sizes = {of: sum(waiting for waiting, _ in replies) for of, replies in self._of_client.items()}
        own, total = sizes.get(client, 0), sum(sizes.values())
        return (not own or own + size <= MOST_UNREAD_OF_CLIENT) and (not total or total + size <= MOST_UNREAD)

    def add(self, client: bytes, size: int, tracker: zmq.MessageTracker | None) -> None:
        """Note a long reply that was sent; `tracker` reports when the bus holds it no more."""
        if tracker:
            self._of_client.setdefault(client, deque()).append((size, tracker))

    def _forget_read(self) -> None:
        for client, replies in [*self._of_client.items()]:
            while replies and replies[0][1].done:
                replies.popleft()
            if not replies:
                del self._of_client[client]
