"""The workers of an all-in-one run as child processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from signal import SIGABRT, Signals

from dnstrail.errors import DnstrailError
from dnstrail.process.command import CANNOT_SERVE, LOG_LEVEL, USAGE
from dnstrail.process.heartbeat import HEARTBEAT, SILENCE, HeartbeatMonitor
from dnstrail.process.log import get_logger
from dnstrail.process.signals import PARENT

_LEVEL = "warning"  # other lines of the workers would mix with the events
_GRACE = 10.0  # seconds for a child to end by itself: the outputs of findings need nine
#: variable: address for `--metrics`; in an all-in-one run that of the probe, and the next five ports (default: none)
_METRICS = "DNSTRAIL_METRICS"
_WORKERS = ("probe", "cache", "signatures", "findings", "history", "web")  # in the order of the ports of their metrics


class WorkerDied(DnstrailError):
    """A worker of this run ended by itself. The run exits with 2 if the worker did (wrong usage), else with 4."""

    def __init__(self, worker: str, code: int) -> None:
        self.worker = worker
        self.code = code
        self.exit_code = code if code == USAGE else CANNOT_SERVE
        super().__init__(f"the {worker} worker {_how(code)}: see its lines above")


def _how(code: int) -> str:
    """Return how a process ended; libraries abort if they receive no memory."""
    if code >= 0:
        return f"ended with {code}"
    beyond = ", perhaps at its memory limit (--memory)" if -code == SIGABRT else ""
    return f"was killed by {Signals(-code).name}{beyond}"


class WorkerHung(DnstrailError):
    """The main loop of a worker stood still, and the run ended the worker."""

    exit_code = CANNOT_SERVE

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"the {worker} worker hung for {SILENCE:g} seconds and was killed: see its lines above")


class Children:
    """The worker processes of one run, by name. None of them outlives the run, or uses more than `memory` MiB."""

    def __init__(self, commands: Mapping[str, Sequence[str]], memory: int) -> None:
        self._commands = commands
        self._memory = memory << 20
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._heartbeats: dict[str, HeartbeatMonitor] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the workers in the order of their commands, and stop them at the end of the block."""
        try:
            for worker, arguments in self._commands.items():
                heartbeat = self._heartbeats[worker] = HeartbeatMonitor()
                with _limited_memory(self._memory):
                    self._processes[worker] = _start(worker, arguments, heartbeat.descriptor)
            yield
        finally:
            self.stop()
            for heartbeat in self._heartbeats.values():
                heartbeat.close()

    def ended(self) -> dict[str, int]:
        """Return the return codes of the workers that have ended; a negative one is a signal."""
        polled = {worker: process.poll() for worker, process in self._processes.items()}
        return {worker: code for worker, code in polled.items() if code is not None}

    def check_heartbeats(self, now: float) -> None:
        """Kill a worker whose main loop stands still; `now` is in seconds of a clock that never steps.

        Raises:
            WorkerHung: a worker was killed.
        """
        for worker, heartbeat in self._heartbeats.items():
            if heartbeat.is_silent(now) and self._processes[worker].poll() is None:
                get_logger().error("worker_hung", hung=worker, seconds=SILENCE)
                _kill(self._processes[worker])
                raise WorkerHung(worker)

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
                _kill(process)


def _start(worker: str, arguments: Sequence[str], heartbeat: int) -> subprocess.Popen[bytes]:
    """Start a worker in a session of its own: signals of the terminal reach it through this process alone."""
    command = [sys.executable, "-P", "-m", f"dnstrail_{worker}", *arguments]  # never a module of the current folder
    environment = {LOG_LEVEL: _LEVEL, **os.environ, PARENT: str(os.getpid()), HEARTBEAT: str(heartbeat)}
    if _METRICS in environment:
        environment[_METRICS] = _port_of(worker, environment[_METRICS])
    return subprocess.Popen(  # noqa: S603 - our own modules
        command, env=environment, stdout=2, start_new_session=True, pass_fds=[heartbeat]
    )


def _port_of(worker: str, metrics: str) -> str:
    """Return the address for the metrics of a worker: [ADDRESS:]PORT for the probe, the next ones for the others."""
    address, colon, port = metrics.rpartition(":")
    return f"{address}{colon}{int(port) + _WORKERS.index(worker)}" if port.isascii() and port.isdigit() else metrics


@contextmanager
def _limited_memory(limit: int) -> Iterator[None]:
    """Limit the memory of a process that is started in the block: it inherits the limit of this process.

    To limit a process of another user takes CAP_SYS_RESOURCE, which containers lack: prlimit(2).
    """
    present, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (present, most))


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # the kernel keeps a process as long as a file system of it hangs
        process.wait(_GRACE)
