"""The containers that start while a command runs: only their time relates them to the command."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dnstrail.events import Event
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_run.reach import Reach
from dnstrail_run.report import StartedContainer

#: containers that started meanwhile, in the same report -> their events are counted and left out; with
#: `--follow-containers` the capture is incomplete
MOST = 64
#: names, connections, servers and waiting sockets of one such container, each -> they are left out; with
#: `--follow-containers` the capture is incomplete
MOST_OF_ONE = 1_000
_EMBEDDED = bytes((127, 0, 0, 11))  # Docker's own resolver in each container of a user-defined network
_NS = 1_000_000_000


class _Found:
    """A container with what it reached; its name and image may come later than its first event."""

    __slots__ = ("image", "name", "reach")

    def __init__(self, resolvers: Collection[bytes]) -> None:
        self.name = self.image = ""
        self.reach = Reach(resolvers, MOST_OF_ONE)


class StartedContainers:
    """The containers whose first event comes after `begin`; none that ran before. `left_out` counts lost events."""

    def __init__(self, resolvers: Collection[bytes]) -> None:
        self._resolvers = frozenset(resolvers) | {_EMBEDDED}
        self._running: Collection[str] | None = None
        self._since = 0.0
        self._beyond = 0
        self._found: dict[str, _Found] = {}

    def begin(self, running: Collection[str], now: float) -> None:
        """Note the containers that run before the command, and the time (epoch) of its start."""
        self._running, self._since = running, now

    def take(self, event: Event) -> None:
        """Take an event of a container, if it started since `begin`."""
        process = event.process
        if self._running is None or process.container_id in self._running or event.timestamp < self._since * _NS:
            return
        found = self._found.get(process.container_id)
        if found is None:
            if len(self._found) >= MOST:
                self._beyond += 1
                return
            found = self._found[process.container_id] = _Found(self._resolvers)
        found.name, found.image = process.container_name or found.name, process.container_image or found.image
        found.reach.take(event)

    @property
    def left_out(self) -> int:
        """The number of events beyond the bounds."""
        return self._beyond + sum(one.reach.left_out for one in self._found.values())

    def complete_names(self, rank: Callable[[list[ConnectionTo]], list[list[str]]]) -> None:
        """Ask again for the names of the connections without one."""
        for one in self._found.values():
            one.reach.complete_names(rank)

    def reports(self) -> list[StartedContainer]:
        """Return the containers, in the order of their first event."""
        return [
            StartedContainer(
                id=container,
                name=one.name,
                image=one.image,
                names=one.reach.names,
                connections=one.reach.connections,
                foreign_dns=one.reach.foreign_dns,
            )
            for container, one in self._found.items()
        ]
