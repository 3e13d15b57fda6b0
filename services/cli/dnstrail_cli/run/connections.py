"""The connections of a command: attempts, results and ends of its sockets, added up."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Sized
from typing import NamedTuple

from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_cli.run.report import UNKNOWN, Program, ReachedAddress

MOST = 20_000  # connections that differ, and sockets that wait for a result or an end, each
OTHERS = 8  # further names of one address
AT_ONCE = 64  # connections in one lookup
CONNECTED = "connected"


class Target(NamedTuple):
    """The end of a connection: its names, the likeliest first, and the process behind it."""

    names: tuple[str, ...]
    address: str
    port: int
    transport: str
    program: Program


class _Row:
    """Equal connections: the number of each result, and the bytes of those that ended; `open` counts the others."""

    __slots__ = ("open", "received", "request", "results", "sent", "target")

    def __init__(self, target: Target, request: ConnectionTo | None = None) -> None:
        self.target = target
        self.request = request
        self.results: Counter[str] = Counter()
        self.sent = self.received = self.open = 0

    def add(self, other: _Row) -> None:
        self.results += other.results
        self.sent += other.sent
        self.received += other.received
        self.open += other.open


class _Socket:
    """The events of a socket that wait for another one: each attempt has a result, each success an end, in order."""

    __slots__ = ("attempts", "ends", "results", "successes")

    def __init__(self) -> None:
        self.attempts: deque[_Row] = deque()
        self.results: deque[str] = deque()
        self.successes: deque[_Row] = deque()
        self.ends: deque[tuple[int, int] | None] = deque()

    @property
    def waits(self) -> bool:
        return bool(self.attempts or self.results or self.successes or self.ends)


class Connections:
    """The connections by their targets.

    The events of one turn come by their names: a result or an end may come before its connection. `left_out` counts
    what is beyond MOST.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._rows: dict[Target, _Row] = {}
        self._sockets: dict[int, _Socket] = {}

    def __contains__(self, socket: int) -> bool:
        """Return whether events of a socket wait for another one."""
        return socket in self._sockets

    def attempt(self, target: Target, request: ConnectionTo | None, socket: int = 0) -> None:
        """Note an attempt. Its result follows for the socket; without one it remains unknown."""
        row = self._rows.get(target)
        if row is None:
            if not self._has_room(self._rows):
                return
            row = self._rows[target] = _Row(target, request)
        row.results[UNKNOWN] += 1
        row.open += 1
        if socket and (events := self._events_of(socket)):
            events.attempts.append(row)
            self._settle(socket, events)

    def result(self, socket: int, result: str) -> None:
        """Note the result of an attempt."""
        if events := self._events_of(socket):
            events.results.append(result)
            self._settle(socket, events)

    def end(self, socket: int, transferred: tuple[int, int] | None) -> None:
        """Note the end of a connection, with the bytes sent and received if they are known."""
        if events := self._events_of(socket):
            events.ends.append(transferred)
            self._settle(socket, events)

    def are_open(self, ended: Container[int]) -> bool:
        """Return whether a connection of a process that has ended is open: its end is on the way."""
        waiting = (row for events in self._sockets.values() for row in events.successes)
        return any(row.target.program.pid in ended for row in waiting)

    def reached(self, asked: Collection[str]) -> list[ReachedAddress]:
        """Return the connections, in the order of the first one, each under the likeliest name that was `asked`."""
        found: dict[Target, _Row] = {}
        for row in self._rows.values():
            name = next((one for one in row.target.names if one in asked), "")
            key = row.target._replace(names=(name,))
            found.setdefault(key, _Row(row.target)).add(row)
        return [_reached(key, row) for key, row in found.items()]

    def complete_names(
        self, rank: Callable[[list[ConnectionTo]], list[list[str]]], asked: Collection[str], most: int
    ) -> None:
        """Ask for the names of the connections that have none which was asked; each takes `most` of them."""
        unnamed = [one for one in self._rows.values() if one.request and not any(n in asked for n in one.target.names)]
        for first in range(0, len(unnamed), AT_ONCE):
            some = unnamed[first : first + AT_ONCE]
            for row, names in zip(some, rank([row.request for row in some if row.request]), strict=True):
                row.target = row.target._replace(names=tuple(names[:most]))

    def _events_of(self, socket: int) -> _Socket | None:
        events = self._sockets.get(socket)
        if events is None and self._has_room(self._sockets):
            events = self._sockets[socket] = _Socket()
        return events

    def _settle(self, socket: int, events: _Socket) -> None:
        """Join what waits at a socket."""
        while events.attempts and events.results:
            row, result = events.attempts.popleft(), events.results.popleft()
            _replace(row.results, UNKNOWN, result)
            if result == CONNECTED:
                events.successes.append(row)
            else:
                row.open -= 1
        while events.successes and events.ends:
            row, transferred = events.successes.popleft(), events.ends.popleft()
            if transferred is not None:
                row.open -= 1
                row.sent += transferred[0]
                row.received += transferred[1]
        if not events.waits:
            del self._sockets[socket]

    def _has_room(self, table: Sized) -> bool:
        self.left_out += len(table) >= MOST
        return len(table) < MOST


def _replace(results: Counter[str], old: str, new: str) -> None:
    results[old] -= 1
    if not results[old]:
        del results[old]
    results[new] += 1


def _reached(key: Target, row: _Row) -> ReachedAddress:
    counted = row.open < row.results.total()
    return ReachedAddress(
        name=key.names[0],
        address=key.address,
        port=key.port,
        transport=key.transport,
        program=key.program,
        results=dict(row.results),
        others=[one for one in row.target.names if one != key.names[0]][:OTHERS],
        bytes_sent=row.sent if counted else None,
        bytes_received=row.received if counted else None,
        bytes_unknown=row.open,
    )
