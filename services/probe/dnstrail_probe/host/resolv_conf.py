"""The resolvers that a process is configured to use: the resolv.conf that it sees (resolv.conf(5))."""

from __future__ import annotations

import queue
import threading
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail_probe.host.resolv_conf_reader import ResolvConfReader

K = TypeVar("K")
V = TypeVar("V")
_PROC = "/proc"
_FRESH = 10_000_000_000  # ns after which a file is read again
MAX_REMEMBERED = 4096  # processes, and namespaces
MAX_WAITING = 256  #: `resolv.conf` files that wait to be read -> `foreign` is unknown: `resolv_conf_dropped`


@dataclass(slots=True, eq=False)
class _File:
    """The resolv.conf of one process: the time of the last request, and the resolvers as of the last read."""

    pid: int
    namespace: int
    requested: int
    read: bool = False
    servers: frozenset[bytes] | None = None


class ResolvConf:
    """The configured resolvers of processes, from files that a child process reads. A thread waits for the child.

    The files belong to strangers, and their file system can hang. A lookup therefore never waits: it returns the
    result of the last read, and requests the next one. Queue and tables are bounded. A request beyond the bound is
    counted in `resolv_conf_dropped`. Times come with the calls. Thread and child keep only `capabilities`.
    """

    def __init__(self, counters: Counter[str], capabilities: tuple[str, ...] = (), proc: str = _PROC) -> None:
        self._counters = counters
        counters["resolv_conf_unread"] = 0  # the thread must add no key while another one iterates
        self._capabilities = capabilities
        self._reader = ResolvConfReader(counters, proc)
        self._files: OrderedDict[tuple[int, int], _File] = OrderedDict()  # by pid and start; the thread never uses it
        self._namespaces: OrderedDict[int, frozenset[bytes]] = OrderedDict()  # only the thread changes it
        self._requests: queue.Queue[_File | None] = queue.Queue(MAX_WAITING)
        threading.Thread(target=self._work, name="resolv.conf", daemon=True).start()

    def __len__(self) -> int:
        return len(self._files) + len(self._namespaces)

    def look(self, namespace: int, pid: int, start: int, now: int) -> frozenset[bytes] | None:
        """Return the packed addresses of a process's resolvers; None if they are unknown, or not yet known.

        `start` tells processes with the same pid apart. `namespace` is the cookie of the network namespace. If the
        file cannot be read, the last file read in that namespace counts. `now` is in ns.
        """
        file = self._files.get((pid, start)) or _File(pid, namespace, now - _FRESH - 1)
        if now - file.requested > _FRESH:
            self._request(file, start, now)
        return file.servers or (self._namespaces.get(namespace) if file.read else None)

    def close(self) -> None:
        """Let the thread and its child end after the present file. Do not wait for them."""
        with suppress(queue.Full):
            self._requests.put_nowait(None)

    def _request(self, file: _File, start: int, now: int) -> None:
        try:
            self._requests.put_nowait(file)
        except queue.Full:
            self._counters["resolv_conf_dropped"] += 1  # the next lookup requests it again
            return
        file.requested = now
        _keep(self._files, (file.pid, start), file)

    def _work(self) -> None:
        keep_capabilities(*self._capabilities, inherited=True)
        self._reader.start()
        while (file := self._requests.get()) is not None:
            file.servers = self._reader.read(file.pid)
            if file.servers is not None:
                _keep(self._namespaces, file.namespace, file.servers)
            file.read = True
        self._reader.close()


def _keep(table: OrderedDict[K, V], key: K, value: V) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > MAX_REMEMBERED:
        table.popitem(last=False)
