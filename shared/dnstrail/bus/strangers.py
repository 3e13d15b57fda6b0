"""Connections of other hosts that may not have shown a key yet: their number is bounded, in all and by host."""

from __future__ import annotations

import socket
from collections import Counter, deque
from contextlib import suppress

from dnstrail.bus.descriptors import socket_of

MOST_YOUNG = 1024  # connections younger than YOUNG
MOST_YOUNG_OF_HOST = 128
YOUNG = 2.5  # seconds: by then a connection has shown its key, or was closed


class Strangers:
    """The young connections of one socket. A host that opens too many of them blocks nobody else."""

    def __init__(self) -> None:
        self._young: deque[tuple[float, str]] = deque()
        self._of_host: Counter[str] = Counter()

    def accept(self, descriptor: int, now: float) -> str:
        """Note a new connection. Beyond a bound shut it down, and return its host; else return ""."""
        self._expire(now)
        with suppress(OSError), socket_of(descriptor) as connection:
            host = str(connection.getpeername()[0])
            if len(self._young) >= MOST_YOUNG or self._of_host[host] >= MOST_YOUNG_OF_HOST:
                connection.shutdown(socket.SHUT_RDWR)
                return host
            self._young.append((now, host))
            self._of_host[host] += 1
        return ""

    def _expire(self, now: float) -> None:
        while self._young and self._young[0][0] <= now - YOUNG:
            _, host = self._young.popleft()
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]
