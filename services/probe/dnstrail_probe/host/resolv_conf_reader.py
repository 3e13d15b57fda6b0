"""Reads the resolv.conf of processes in a child process: a read that hangs would keep its own process from ending."""

from __future__ import annotations

import select
import subprocess
import sys
from collections import Counter
from contextlib import suppress

_CHILD = (sys.executable, "-P", "-m", "dnstrail_probe.host.resolv_conf_child")
#: seconds to read a `resolv.conf` -> the process that reads it is replaced: `resolv_conf_unread`
_PATIENCE = 5.0
#: processes that hang while they read a `resolv.conf` -> no `resolv.conf` is read until one of them has ended:
#: `resolv_conf_unread`
MAX_HANGING = 4

Child = subprocess.Popen[bytes]


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
