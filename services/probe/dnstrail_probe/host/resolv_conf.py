"""The resolvers that a process is configured to use: the resolv.conf that it sees (resolv.conf(5))."""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

from dnstrail.process.privileges import keep_capabilities
from dnstrail_probe.host.process_root import open_below, open_root

K = TypeVar("K")
V = TypeVar("V")
_PROC = "/proc"
_PATH = "/etc/resolv.conf"
_LARGEST = 65536  # bytes of a file that are read
_FRESH = 10_000_000_000  # ns after which a file is read again
_LOOPBACK = frozenset({ip_address("127.0.0.1").packed, ip_address("::1").packed})  # the default
MAX_REMEMBERED = 4096  # processes, and namespaces
MAX_WAITING = 256  # files that wait to be read


@dataclass(slots=True, eq=False)
class _File:
    """The resolv.conf of one process: the time of the last request, and the resolvers as of the last read."""

    pid: int
    namespace: int
    requested: int
    read: bool = False
    servers: frozenset[bytes] | None = None


class ResolvConf:
    """The configured resolvers of processes, from files that a thread reads.

    The files belong to strangers, and their file system can hang. A lookup therefore never waits: it returns the
    result of the last read, and requests the next one. Queue and tables are bounded. A request beyond the bound is
    counted in `resolv_conf_dropped`. Times come with the calls. The thread keeps only `capabilities`.
    """

    def __init__(self, counters: Counter[str], capabilities: tuple[str, ...] = (), proc: str = _PROC) -> None:
        self._counters = counters
        self._capabilities = capabilities
        self._proc = proc
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
        """Let the thread end after its present file. Do not wait for it: it holds nothing but that file."""
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
        keep_capabilities(*self._capabilities)
        while (file := self._requests.get()) is not None:
            file.servers = _read(self._proc, file.pid)
            if file.servers is not None:
                _keep(self._namespaces, file.namespace, file.servers)
            file.read = True


def _keep(table: OrderedDict[K, V], key: K, value: V) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > MAX_REMEMBERED:
        table.popitem(last=False)


def _read(proc: str, pid: int) -> frozenset[bytes] | None:
    """Return the servers in the file of a process; None if there is no regular file, or it may not be read."""
    try:
        with open_root(pid, proc) as root, open_below(root, _PATH) as file:
            return configured_in(os.read(file, _LARGEST).decode(errors="replace"))
    except OSError:
        return None


def configured_in(text: str) -> frozenset[bytes]:
    """Return the packed addresses that the text of a resolv.conf names; the loopback addresses if it names none."""
    found: set[bytes] = set()
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word != "nameserver" or not rest:
            continue
        try:
            address = ip_address(rest[0].partition("%")[0])
        except ValueError:
            continue
        found.add((getattr(address, "ipv4_mapped", None) or address).packed)
    return frozenset(found) or _LOOPBACK
