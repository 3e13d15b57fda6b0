"""The workers of an all-in-one run as child processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dnstrail.errors import DnstrailError
from dnstrail.process.command import CANNOT_SERVE, USAGE
from dnstrail.process.signals import PARENT

_GRACE = 5.0  # seconds for a child to end by itself


class WorkerDied(DnstrailError):
    """A worker of this run ended by itself. The run exits with 2 if the worker did (wrong usage), else with 4."""

    def __init__(self, worker: str, code: int) -> None:
        self.worker = worker
        self.code = code
        self.exit_code = code if code == USAGE else CANNOT_SERVE
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        super().__init__(f"the {worker} worker {ended}: see its lines above")


class Children:
    """The worker processes of one run, by name. None of them outlives the run."""

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._commands = commands
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the workers in the order of their commands, and stop them at the end of the block."""
        try:
            for worker, arguments in self._commands.items():
                self._processes[worker] = _start(worker, arguments)
            yield
        finally:
            self.stop()

    def ended(self) -> dict[str, int]:
        """Return the return codes of the workers that have ended; a negative one is a signal."""
        polled = {worker: process.poll() for worker, process in self._processes.items()}
        return {worker: code for worker, code in polled.items() if code is not None}

    def process_id(self, worker: str) -> int | None:
        """Return the process id of a worker, or None if it was not started."""
        return self._processes[worker].pid if worker in self._processes else None

    def stop(self) -> None:
        """End the workers in reverse order, so that none asks an ended worker. Kill a worker that takes too long."""
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(worker: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: signals of the terminal reach it through this process alone."""
    command = [sys.executable, "-P", "-m", f"dnstrail_{worker}", *arguments]  # never a module of the current folder
    return subprocess.Popen(  # noqa: S603 - our own modules
        command, env={**os.environ, PARENT: str(os.getpid())}, stdout=2, start_new_session=True
    )
