"""The handshakes with servers of other hosts: some at once, and each for a bounded time."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import takewhile

from dnstrail.bus.relayed import RelayedConnection

AT_ONCE = 32  # handshakes with servers of other hosts; others wait for the end of one
WELCOMED = 234  # bytes that a server sends before it believes a key: its greeting and WELCOME (RFC 26/CurveZMQ)
#: seconds for a client on another host to show its key -> the connection is closed: `clients_refused`,
#: `subscribers_refused`
PATIENCE = 2.0
_REACHED = 0.5  # seconds after which one with a host that cannot be reached lets another one begin


@dataclass(slots=True)
class _Handshake:
    connection: RelayedConnection
    began: float
    received: int = 0  # bytes


class Handshakes:
    """The connections whose servers have not believed the key of this worker yet, by server, the oldest first.

    A worker connects to all its hosts at once. Each handshake costs milliseconds: a thousand at once would all be over
    too late, and begin anew.
    """

    def __init__(self) -> None:
        self._open: dict[Hashable, _Handshake] = {}
        self._turns: dict[Hashable, _Handshake] = {}  # those that others wait for

    def __len__(self) -> int:
        return len(self._open)

    @property
    def room(self) -> int:
        """The number of handshakes that may begin now."""
        return AT_ONCE - len(self._turns)

    def begin(self, server: Hashable, connection: RelayedConnection, now: float) -> None:
        """Add a connection that was opened now."""
        self._open[server] = self._turns[server] = _Handshake(connection, now)

    def receive(self, server: Hashable, size: int) -> None:
        """Count bytes from a server: they may end its handshake."""
        handshake = self._open.get(server)
        if handshake is not None:
            handshake.received += size
            if handshake.received > WELCOMED:
                self.end(server)

    def end(self, server: Hashable) -> None:
        """Forget a connection."""
        self._open.pop(server, None)
        self._turns.pop(server, None)

    def expire(self, now: float) -> None:
        """Close the connections whose handshakes last too long. Hosts that cannot be reached delay no others."""
        for server, handshake in _older(self._turns, now - _REACHED):
            if not handshake.connection.reached:
                del self._turns[server]
        for server, handshake in _older(self._open, now - PATIENCE):
            self.end(server)
            handshake.connection.give_up()


def _older(handshakes: dict[Hashable, _Handshake], than: float) -> list[tuple[Hashable, _Handshake]]:
    """Return the handshakes that began until a time."""
    return [*takewhile(lambda item: item[1].began <= than, handshakes.items())]
