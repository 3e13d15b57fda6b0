"""Follows the processes of a command, the containers that start meanwhile, and programs that give rights."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dnstrail.captured import Labels
from dnstrail.container import is_roots
from dnstrail.events import (
    NET_PACKET_DNS,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Event,
)
from dnstrail.pipeline.view import Item
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_run.reach import Reach
from dnstrail_run.report import StartedContainer

_PATIENCE = 1.0  # seconds for all files: one may lie on a file system that hangs
_CAPABILITIES = "security.capability"  # the extended attribute: capabilities(7)
#: containers that started meanwhile, in the same report -> their events are counted and left out; with
#: `--follow-containers` the capture is incomplete
MOST = 64
#: names, connections, servers and waiting sockets of one such container, each -> they are left out; with
#: `--follow-containers` the capture is incomplete
MOST_OF_ONE = 1_000
_EMBEDDED = bytes((127, 0, 0, 11))  # Docker's own resolver in each container of a user-defined network
_NS = 1_000_000_000
TOPICS = (
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_TCP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_FORK,
    SCHED_PROCESS_EXIT,
)
_OF_SOCKETS = (NET_TCP_CONNECT_RESULT, NET_TCP_CLOSE)  # also after the end of the process, whose id is another's then
_MOST_CGROUPS = 256
#: programs of a command among which `--enforce` finds the first with rights of its own -> later ones are not named
MOST_EXECUTED = 4_096
#: ended processes of a command whose connections may be open -> a run does not wait for the ends of the connections of
#: elder ones: their bytes can be unknown
MOST_ENDED = 65_536


class _Found:
    """A container with what it reached; its name, image and labels may come later than its first event."""

    __slots__ = ("image", "labels", "name", "reach")

    def __init__(self, resolvers: Collection[bytes]) -> None:
        self.name = self.image = ""
        self.labels: Labels = ()
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
        found.labels = process.container_labels or found.labels
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
                labels=dict(one.labels),
            )
            for container, one in self._found.items()
        ]


class Followed:
    """What the processes of one cgroup reached, and the containers that started while they ran.

    A process belongs to the command if it is in the cgroup, or if a process of the command forked it. The events of a
    turn come by their names: they are applied in the order of time, at the end of the turn. `ended` contains the last
    processes of the command whose end was seen, and `executed` the first programs that it ran, in order. `below`
    returns the cgroups below the one of the command, and `has_left` is true if one of its processes was in another one.
    `named` is that of `Reach`.
    """

    def __init__(
        self,
        cgroup: int,
        resolvers: Collection[bytes],
        below: Callable[[], Collection[int]] = frozenset,
        named: Mapping[int, Collection[bytes]] = MappingProxyType({}),
    ) -> None:
        self.command = Reach(resolvers, named=named)
        self.containers = StartedContainers(resolvers)
        self.ended: dict[int, None] = {}
        self.executed: dict[Executed, None] = {}
        self.has_left = False
        self._below = below
        self._cgroup = cgroup
        self._cgroups = {cgroup}
        self._processes: set[int] = set()
        self._pid = 0
        self._turn: list[Event] = []

    def begin(self, pid: int) -> None:
        """Note the process of the command."""
        self._pid = pid
        self._processes.add(pid)

    def take(self, item: Item) -> None:
        """Take an event of whatever process."""
        if isinstance(item, Event):
            if self._turn and self._turn[-1].mark != item.mark:
                self.apply()
            self._turn.append(item)

    def end_turn(self, turn: Turn | None) -> None:
        """Note the last turn that has ended."""
        mark = self._turn[-1].mark if self._turn else None
        if turn is not None and mark is not None and (mark[0] != turn.start or mark[1] <= turn.turn):
            self.apply()

    def apply(self) -> None:
        """Apply the events that were taken."""
        for event in sorted(self._turn, key=lambda event: event.captured.timestamp):
            if self._is_own(event):
                self._follow(event)
                self.command.take(event)
            elif is_roots(event.container_id):
                self.containers.take(event)
        self._turn.clear()

    @property
    def cgroups(self) -> Collection[int] | None:
        """The cgroups in which processes of the command were; None if there are too many of them."""
        return self._cgroups if len(self._cgroups) < _MOST_CGROUPS else None

    @property
    def is_closing(self) -> bool:
        """True if connections of ended processes of the command are open: their ends are on the way."""
        return self.command.is_closing(self.ended)

    def complete_names(self, rank: Callable[[list[ConnectionTo]], list[list[str]]]) -> None:
        """Ask again for the names of the connections without one: the cache may have been behind at their events."""
        self.command.complete_names(rank)
        self.containers.complete_names(rank)

    def _is_own(self, event: Event) -> bool:
        if event.event_name in _OF_SOCKETS:
            return self.command.waits_for(event)
        return event.process.cgroup_id == self._cgroup or event.process_id in self._processes

    def _follow(self, event: Event) -> None:
        if event.event_name in _OF_SOCKETS:
            return
        self._processes.add(event.process_id)
        self._note_cgroup(event.process.cgroup_id)
        if event.event_name == SCHED_PROCESS_FORK and isinstance(child := event.arg("child_pid"), int):
            self._processes.add(child)
        elif event.event_name == SCHED_PROCESS_EXEC and len(self.executed) < MOST_EXECUTED:
            process = event.process
            self.executed[Executed(process.path, process.user_id, process.mount_namespace)] = None
        elif event.event_name == SCHED_PROCESS_EXIT:
            self._processes.discard(event.process_id)
            self.ended[event.process_id] = None
            if len(self.ended) > MOST_ENDED:
                del self.ended[next(pid for pid in self.ended if pid != self._pid)]

    def _note_cgroup(self, cgroup: int) -> None:
        if cgroup and cgroup not in self._cgroups and len(self._cgroups) < _MOST_CGROUPS:
            self._cgroups.add(cgroup)
            self.has_left = self.has_left or cgroup not in self._below()


class Executed(NamedTuple):
    """A program that the command ran: its path, in a mount namespace (inode of /proc/PID/ns/mnt), and its user."""

    path: str
    user: int
    mount_namespace: int


def first_privileged(programs: Iterable[Executed], namespaces: Collection[int]) -> str:
    """Return the path of the first program whose file gives rights that its user lacks, "" if none is found.

    Only files of these mount namespaces are found: those of this process and of the command have the same files.
    """
    found: list[str] = []

    def find() -> None:
        of_own = (one for one in programs if one.mount_namespace in namespaces)
        found.extend(one.path for one in of_own if _gives_rights(one.path, one.user))

    finding = threading.Thread(target=find, daemon=True)
    finding.start()
    finding.join(_PATIENCE)
    return found[0] if found else ""


def _gives_rights(path: str, user: int) -> bool:
    """Return whether a file gives rights to a user; root has all of them already."""
    try:
        file = Path(path).stat()
        if not user or os.statvfs(path).f_flag & os.ST_NOSUID:
            return False
        if _CAPABILITIES in os.listxattr(path):
            return True
    except OSError:  # removed meanwhile, or this user may not find it
        return False
    of_user = file.st_mode & stat.S_ISUID and file.st_uid != user
    of_group = file.st_mode & stat.S_ISGID and file.st_mode & stat.S_IXGRP
    return bool(of_user or of_group)
