"""Processes by pid and start, and the network namespaces of their connections."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final, NamedTuple

from dnstrail.captured import Process
from dnstrail.image.bounds import Counts

Identity = tuple[str, int, int]  # host, pid, and start in ns (0 if unknown)
MAX_LIVES = 4  # processes of one pid that are remembered, the last started ones
DAEMONS: Final = ("nscd", "systemd-resolve")  # the C library asks them over a socket of their own (nsswitch.conf)
#: network namespaces with a daemon that asks for others, or with IPv6 -> the one noted longest ago is forgotten:
#: `evicted_namespaces`
MAX_NAMESPACES: Final = 4096


class Life(NamedTuple):
    """One process that had a pid. `parent` is None if its fork was not seen; `start` is 0 until an event states it.

    `start` is a time of the clock of the probe, which may differ from the clock of the image. `since` is the stamp of
    the first event about the process.
    """

    start: int
    since: int
    parent: Identity | None = None
    ended: bool = False


class Processes:
    """The processes that had each pid of a host, the last started one last.

    Fed by fork, exec, exit, and by all events with a process. Beyond `most` pids one is evicted, and counted as
    `evicted_processes`: the pid whose process ended first, else the pid least recently noted. A pid without a host is
    searched among the first `hosts` hosts that have any.
    """

    def __init__(self, most: int, hosts: int, counters: Counts) -> None:
        self.counters = counters
        self._most = most
        self._most_hosts = hosts
        self._lives: OrderedDict[tuple[str, int], list[Life]] = OrderedDict()
        self._ended: OrderedDict[tuple[str, int], None] = OrderedDict()  # pids that no process has
        self._hosts: dict[str, int] = {}  # the number of pids of each

    def __len__(self) -> int:
        return len(self._lives)

    def note(self, identity: Identity, stamp: int) -> None:
        """Note a process that runs; a start that is later than those known is another process."""
        host, pid, start = identity
        lives = self._of(host, pid)
        last = lives[-1] if lives else None
        if last is None or start > last.start > 0:
            self._begin(lives, (host, pid), Life(start, stamp))
        elif not last.start:  # its fork stated no start
            lives[-1] = last._replace(start=start)

    def forked(self, parent: Identity, pid: int, stamp: int) -> None:
        """Note a child of a process: whatever had its pid has ended."""
        lives = self._of(parent[0], pid)
        last = lives[-1] if lives else None
        if last is not None and last.parent is None and last.since > stamp:  # its messages were applied before
            lives[-1] = last._replace(parent=parent, since=stamp)
            return
        self._begin(lives, (parent[0], pid), Life(0, stamp, parent))

    def ended(self, identity: Identity, stamp: int) -> None:
        """Note the end of a process."""
        self.note(identity, stamp)
        lives = self._lives[identity[:2]]
        for place, life in enumerate(lives):
            if life.start == identity[2]:
                lives[place] = life._replace(ended=True)
        if lives[-1].ended:
            self._ended[identity[:2]] = None

    def parent_of(self, host: str, process: Process) -> Identity | None:
        """Return the parent of a noted process: its forker, else the process that has the pid of its parent."""
        for life in reversed(self._lives.get((host, process.pid), ())):
            if life.parent is not None and life.start == process.start_time:
                return life.parent
        lives = self._lives.get((host, process.parent_pid))
        if not lives or lives[-1].ended or lives[-1].start > process.start_time:
            return None
        return host, process.parent_pid, lives[-1].start

    def starts_of(self, pid: int, at: int) -> frozenset[int] | None:
        """Return the start of the process that had a pid at a time, on each host; None if no such process is known."""
        hosts = islice(self._hosts, self._most_hosts)
        found = [lives for host in hosts if (lives := self._lives.get((host, pid)))]
        return frozenset(_at(lives, at).start for lives in found) or None

    def _begin(self, lives: list[Life], key: tuple[str, int], life: Life) -> None:
        self._ended.pop(key, None)
        lives.append(life)
        del lives[:-MAX_LIVES]

    def _evict(self) -> None:
        key = next(iter(self._ended or self._lives))
        self._ended.pop(key, None)
        del self._lives[key]
        host, _ = key
        self.counters["evicted_processes"] += 1
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    def _of(self, host: str, pid: int) -> list[Life]:
        key = host, pid
        lives = self._lives.get(key)
        if lives is None:
            lives = self._lives[key] = []
            self._hosts[host] = self._hosts.get(host, 0) + 1
            if len(self._lives) > self._most:
                self._evict()
        else:
            self._lives.move_to_end(key)
        return lives


def _at(lives: list[Life], at: int) -> Life:
    """Return the process at a time; the first one may be older than the first event about it."""
    return next((life for life in lives[::-1] if life.since <= at), lives[0])


def identity_of(host: str, process: Process | None) -> Identity | None:
    """Return the identity of a process, None if its pid is unknown."""
    return (host, process.pid, process.start_time) if process is not None and process.pid else None


class KnownNamespace:
    """One network namespace: the last daemon of each name, and whether a connection over IPv6 has succeeded."""

    __slots__ = ("daemons", "uses_ipv6")

    def __init__(self) -> None:
        self.daemons: dict[str, Identity] = {}
        self.uses_ipv6 = False


_UNKNOWN: Final = KnownNamespace()


class Namespaces:
    """The namespaces with a daemon or with IPv6, by host and number. Evictions are counted as `evicted_namespaces`."""

    def __init__(self, counters: Counts) -> None:
        self.counters = counters
        self._of: OrderedDict[tuple[str, int], KnownNamespace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def of(self, host: str, number: int) -> KnownNamespace:
        """Return a namespace, or one without daemons and IPv6."""
        return self._of.get((host, number), _UNKNOWN)

    def asked(self, host: str, number: int, process: Process) -> None:
        """Note that a daemon asks in a namespace: it is the last one of its name there."""
        self._noted(host, number).daemons[process.name] = (host, process.pid, process.start_time)

    def connected(self, host: str, number: int, address: str) -> None:
        """Note that a connection to an address succeeded."""
        if ":" in address:
            self._noted(host, number).uses_ipv6 = True

    def _noted(self, host: str, number: int) -> KnownNamespace:
        key = host, number
        found = self._of.get(key)
        if found is None:
            found = self._of[key] = KnownNamespace()
            if len(self._of) > MAX_NAMESPACES:
                self._of.popitem(last=False)
                self.counters["evicted_namespaces"] += 1
        else:
            self._of.move_to_end(key)
        return found
