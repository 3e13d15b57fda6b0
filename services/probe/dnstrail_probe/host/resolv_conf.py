"""The resolvers that a process is configured to use: the resolv.conf that it sees (resolv.conf(5))."""

from __future__ import annotations

import queue
import select
import subprocess
import sys
import threading
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from dnstrail.kernel.capabilities import keep_capabilities

_CHILD = (sys.executable, "-P", "-m", "dnstrail_probe.host.resolv_conf_child")
_PATIENCE = 5.0  #: seconds to read a `resolv.conf` -> the process that reads it is replaced: `resolv_conf_unread`
#: processes that hang while they read a `resolv.conf` -> no `resolv.conf` is read until one of them has ended:
#: `resolv_conf_unread`
MAX_HANGING = 4
Child = subprocess.Popen[bytes]
K = TypeVar("K")
V = TypeVar("V")
_PROC = "/proc"
_FRESH = 10_000_000_000  # ns after which a file is read again
MAX_REMEMBERED = 4096  # processes, and namespaces
MAX_WAITING = 256  #: `resolv.conf` files that wait to be read -> `foreign` is unknown: `resolv_conf_dropped`


class ResolvConfReader:
    """A child process that reads files, and the children that hang in a file system that does not reply.

    A child that hangs is killed, left alone and replaced. The kernel ends it once its file system replies. While
    MAX_HANGING children hang, nothing is read. Each file that is not read is counted in `resolv_conf_unread`.
    """

    def __init__(self, counters: Counter[str], proc: str) -> None:
        self._counters = counters
        self._command = (*_CHILD, proc)
        self._child: Child | None = None
        self._hanging: list[Child] = []

    def start(self) -> None:
        """Start the child if there is none. It inherits the capabilities of the calling thread."""
        self._hanging = [child for child in self._hanging if child.poll() is None]
        if self._child is None and len(self._hanging) < MAX_HANGING:
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            with suppress(OSError):  # no memory, for example; the next file tries again
                self._child = subprocess.Popen(  # noqa: S603 - our own
                    self._command, stdin=pipe, stdout=pipe, stderr=nothing, bufsize=0, process_group=0
                )

    def read(self, pid: int) -> frozenset[bytes] | None:
        """Return the packed addresses of a process's resolvers; None if they are unknown."""
        self.start()
        reply = _ask(self._child, pid) if self._child else b""
        if not reply:
            self._counters["resolv_conf_unread"] += 1
            self._abandon()
        return frozenset(map(bytes.fromhex, reply.decode().split())) or None

    def close(self) -> None:
        """Kill the child, and wait until all children have ended. A child that hangs ends with its file system."""
        self._abandon()
        for child in self._hanging:
            child.wait()

    def _abandon(self) -> None:
        """Kill the child, and do not wait for its end."""
        if self._child is not None:
            self._child.kill()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe:
                    pipe.close()
            self._hanging.append(self._child)
            self._child = None


def _ask(child: Child, pid: int) -> bytes:
    """Return the child's reply, a line; empty if it hangs or has ended."""
    if child.stdin is None or child.stdout is None:
        return b""
    poll = select.poll()
    poll.register(child.stdout, select.POLLIN)
    try:
        child.stdin.write(b"%d\n" % pid)
        return child.stdout.readline() if poll.poll(_PATIENCE * 1000) else b""
    except OSError:
        return b""


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
