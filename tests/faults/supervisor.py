"""A supervisor of workers, as systemd is one: it starts a worker anew when it ends, and kills one that stands still."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from stepped import write_step

_REST = 0.1  # seconds before a worker that ended is started anew, as RestartSec= of systemd
_LOOK = 0.02  # seconds between two looks at the workers
_END = 30.0  # seconds for a worker to end
_LAUNCHER = Path(__file__).parent / "stepped.py"


class Worker:
    """A command that runs as a process, again and again. `starts` counts its processes."""

    def __init__(self, folder: Path, name: str, words: tuple[str, ...]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.starts = 0
        self._words = words
        self._step = folder / "step"
        self._notified = folder / f"{name}.notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setblocking(False)
        self._notify.bind(str(self._notified))
        self._notified.chmod(0o666)
        self.beat: float | None = None
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process."""
        command = [sys.executable, str(_LAUNCHER), str(self._step), *self._words]
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._notified)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.starts += 1
        self.beat = None
        return self.process

    def note_beats(self) -> None:
        """Note the beats that the process sent."""
        with suppress(BlockingIOError):
            while self._notify.recv(1024):
                self.beat = time.monotonic()

    def end(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._notify.close()


class Supervisor:
    """A thread that restarts workers. `watchdog` is the time without a beat after which it kills one; None: never."""

    def __init__(self, folder: Path) -> None:
        self.workers: dict[str, Worker] = {}
        self.watchdog: float | None = None
        self._folder = folder
        write_step(folder / "step", 0.0)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def start(self, name: str, *words: str | Path) -> Worker:
        """Start a worker that is started anew whenever it ends."""
        with self._lock:
            worker = self.workers[name] = Worker(self._folder, name, tuple(map(str, words)))
        return worker

    def end(self, name: str) -> None:
        """End a worker for good."""
        with self._lock:
            self.workers.pop(name).end()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process of a worker."""
        with self._lock:
            self.workers[name].process.send_signal(number)

    def close(self) -> None:
        """End all workers, the probe before those that receive from it."""
        self._stop.set()
        self._thread.join()
        for name in [*reversed(self.workers)]:
            self.end(name)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK):
            with self._lock:
                for worker in self.workers.values():
                    self._look(worker)

    def _look(self, worker: Worker) -> None:
        worker.note_beats()
        if worker.process.poll() is not None:
            if not self._stop.wait(_REST):
                worker.start()
        elif self.watchdog and worker.beat is not None and time.monotonic() - worker.beat > self.watchdog:
            worker.process.kill()
            worker.process.wait()
