"""The connections of a command: attempts, results and ends of its sockets, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Sized
from typing import NamedTuple

from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_run.report import UNKNOWN, Program, ReachedAddress

OTHERS = 8  #: further names of one address in the report -> they are left out
CONNECTED = "connected"


class ReachedTarget(NamedTuple):
    """The end of a connection: its names, the likeliest first, and the process behind it."""

    names: tuple[str, ...]
    address: str
    port: int
    transport: str
    program: Program


class _Row:
    """Equal connections: the number of each result, and the bytes of those that ended; `unknown` counts the others."""

    __slots__ = ("received", "request", "results", "sent", "target", "unknown")

    def __init__(self, target: ReachedTarget, request: ConnectionTo | None = None) -> None:
        self.target = target
        self.request = request
        self.results: Counter[str] = Counter()
        self.sent = self.received = self.unknown = 0

    def add(self, other: _Row) -> None:
        self.results += other.results
        self.sent += other.sent
        self.received += other.received
        self.unknown += other.unknown


class Connections:
    """The connections by their targets; their events come in the order of time.

    Connections that differ, and sockets that wait for a result or an end, are at most `most` each; `left_out` counts
    what is beyond.
    """

    def __init__(self, most: int) -> None:
        self.left_out = 0
        self._most = most
        self._rows: dict[ReachedTarget, _Row] = {}
        self._sockets: dict[int, _Row] = {}  # those that wait for a result or an end

    def __contains__(self, socket: int) -> bool:
        """Return whether a socket waits for its result or its end."""
        return socket in self._sockets

    def attempt(self, target: ReachedTarget, request: ConnectionTo | None, socket: int = 0) -> None:
        """Note an attempt. Its result follows for the socket; without one it remains unknown."""
        row = self._rows.get(target)
        if row is None:
            if not self._has_room(self._rows):
                return
            row = self._rows[target] = _Row(target, request)
        row.results[UNKNOWN] += 1
        row.unknown += 1
        if socket and (socket in self._sockets or self._has_room(self._sockets)):
            self._sockets[socket] = row

    def result(self, socket: int, result: str) -> None:
        """Note the result of an attempt."""
        if (row := self._sockets.get(socket)) is None:
            return
        row.results += Counter({result: 1})
        row.results -= Counter({UNKNOWN: 1})  # drops what is zero
        if result != CONNECTED:
            row.unknown -= 1
            del self._sockets[socket]

    def end(self, socket: int, transferred: tuple[int, int] | None) -> None:
        """Note the end of a connection, with the bytes sent and received if they are known."""
        row = self._sockets.pop(socket, None)
        if row is not None and transferred is not None:
            row.unknown -= 1
            row.sent += transferred[0]
            row.received += transferred[1]

    def are_open(self, ended: Container[int]) -> bool:
        """Return whether a socket of a process that has ended waits: its end is on the way."""
        return any(row.target.program.pid in ended for row in self._sockets.values())

    def reached(self, asked: Collection[str]) -> list[ReachedAddress]:
        """Return the connections, in the order of the first one, each under the likeliest name that was `asked`."""
        found: dict[ReachedTarget, _Row] = {}
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
        for row, names in zip(unnamed, rank([row.request for row in unnamed if row.request]), strict=True):
            row.target = row.target._replace(names=tuple(names[:most]))

    def _has_room(self, table: Sized) -> bool:
        self.left_out += len(table) >= self._most
        return len(table) < self._most


def _reached(key: ReachedTarget, row: _Row) -> ReachedAddress:
    counted = row.unknown < row.results.total()
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
        bytes_unknown=row.unknown,
    )
