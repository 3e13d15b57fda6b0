"""The connections of a command as strace sees them: an account of pids and programs that owes nothing to dnstrail."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_COMM = 15  # characters of the name of a process
_EXEC = re.compile(r'^execve\("([^"]+)".* = 0$', re.MULTILINE)
_CONNECT = re.compile(r"^connect\(\d+<TCP.*sin_port=htons\((\d+)\).* = (?:0|-1 EINPROGRESS)", re.MULTILINE)
_SOCKET = re.compile(r"<TCP:\[[\d.]+:(\d+)->[\d.]+:(\d+)\]>")


class Connecting(NamedTuple):
    """A process that made a connection."""

    pid: int
    name: str
    path: str


class SystemCalls:
    """The system calls of a command and of all that it started, one file a thread (strace -ff)."""

    def __init__(self, folder: Path) -> None:
        self._prefix = folder / "calls"

    @property
    def strace(self) -> list[str]:
        """The command line that runs a command under strace."""
        return ["strace", "-ff", "-qq", "-yy", "-o", str(self._prefix), "-e", "trace=execve,connect,sendto,write,close"]

    def connections(self, server_port: int) -> dict[int, Connecting]:
        """Return the process behind each connection to a port, by the port of the client."""
        found: dict[int, Connecting] = {}
        attempts = 0
        for file in self._prefix.parent.glob(f"{self._prefix.name}.*"):
            text = file.read_text(errors="replace")
            attempts += sum(int(port) == server_port for port in _CONNECT.findall(text))
            for ends in _SOCKET.finditer(text):
                if int(ends[2]) == server_port:
                    process = _process_at(text[: ends.start()], int(file.suffix[1:]))
                    assert found.setdefault(int(ends[1]), process) == process, "two processes with one connection"
        assert len(found) == attempts, "a connection whose port is unknown"
        return found


def _process_at(calls: str, pid: int) -> Connecting:
    """Return a process after its system calls so far."""
    program = _EXEC.findall(calls)[-1]
    return Connecting(pid, Path(program).name[:_COMM], os.path.realpath(program))
