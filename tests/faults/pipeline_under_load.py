"""The pipeline that the faults strike: separate workers as the units run them, under load and under watch."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from found_numbers import SIGNATURE, FoundNumbers
from live.processes import run_dir, wait_until
from live.resolver_load import CLIENTS, Load
from lookup_watch import CacheCounters, LookupWatch
from stepped import write_step
from supervisor import Supervisor

USER = 60999  # of the workers, if root runs the program
PATIENCE = 120.0  # seconds for a recovery
GROUP = ("signatures-1", "signatures-2")
_DISK = 64  # MiB for the state, if root runs the program
_SIZE = 20_000  # roots of the cache: it holds all names of one fault


class Pipeline:
    """A probe at a dnstap socket, a cache with a state, two signature workers, and the worker of findings to a file."""

    def __init__(self, run_dir: Path, folder: Path) -> None:
        self.run_dir = run_dir
        self.folder = folder
        self.step = 0.0
        self.supervisor = Supervisor(folder)
        self.found = FoundNumbers(folder / "out/findings.jsonl")
        self.load = Load(run_dir / "dnstap.sock", lambda: self.step)
        self.watch = LookupWatch(run_dir)
        self.counters = CacheCounters(run_dir, lambda: self.supervisor.workers["cache"].process.pid)
        self._user = () if os.geteuid() else ("--user", f"{USER}:{USER}")

    def start(self) -> None:
        """Start the workers, then load and watch; wait until the first name has led to a finding."""
        findings = f"ipc://{self.run_dir}/findings.sock"
        options = ("--dnscache", f"unmatched=accept,size={_SIZE}", "--state", self.folder / "state/image")
        self._start("findings", "findings", "--to", f"file:{self.folder}/out/findings.jsonl,size=1024")
        self._start("cache", "cache", *options)
        for name in GROUP:
            signature = ("--signatures", self.folder / "answered.py", "--select", "ANSWERED", "--findings", findings)
            self._start(name, "signatures", *signature)
        self._start("probe", "probe", "--capture", f"dnstap:{self.run_dir}/dnstap.sock", "--subscribers", "3")
        wait_until(lambda: '"ready"' in self.log("probe"), "the probe")
        self.load.start()
        self.await_all(0)
        self.watch.start()

    def await_all(self, number: int) -> float:
        """Wait until the names of all clients after a number are found and have findings; return the time of that."""

        def works() -> bool:
            self.counters.read()
            block = self.found.block(range(number, self.load.sent), CLIENTS)
            return block is not None and len(self.counters.found(block)) == len(block)

        wait_until(works, "the pipeline to work again", PATIENCE)
        return time.monotonic()

    def await_found(self, number: int) -> None:
        """Wait until a name is found."""
        wait_until(lambda: self.counters.found(range(number, number + 1)), "the name", PATIENCE)

    def await_sent(self, more: int) -> None:
        """Wait until the load has sent so many further names."""
        until = self.load.sent + more
        self.wait(lambda: self.load.sent >= until, "the load")

    def wait(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for a condition, and read the counters meanwhile."""

        def holds() -> object:
            self.counters.read()
            return condition()

        wait_until(holds, what, patience)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let no load be sent for the time of the block."""
        with self.load.lock:
            yield

    def kill(self, name: str) -> None:
        """Kill the process of a worker."""
        self.supervisor.signal(name, signal.SIGKILL)

    def restart(self, name: str) -> None:
        """End a worker as its supervisor does, and wait until another process of it runs."""
        starts = self.supervisor.workers[name].starts
        self.supervisor.signal(name, signal.SIGTERM)
        wait_until(lambda: self.supervisor.workers[name].starts > starts, "the restart")

    def set_step(self, seconds: float) -> None:
        """Set the wall clock of all workers, and that of the resolver, ahead or back."""
        self.step = seconds
        write_step(self.folder / "step", seconds)

    def log(self, name: str) -> str:
        """Return the log of a worker."""
        return self.supervisor.workers[name].log.read_text(errors="replace")

    def close(self) -> None:
        """End everything."""
        for thread in (self.load, self.watch):
            thread.stop.set()
            if thread.is_alive():
                thread.join()
        self.supervisor.close()
        self.counters.close()

    def _start(self, name: str, *words: str | Path) -> None:
        self.supervisor.start(name, *words, *self._user, "--run-dir", self.run_dir)


@contextmanager
def pipeline() -> Iterator[Pipeline]:
    """Run the pipeline."""
    with run_dir() as sockets:
        folder = sockets.parent
        folder.chmod(0o755)
        (folder / "answered.py").write_text(SIGNATURE)
        (folder / "answered.py").chmod(0o644)
        for name in ("state", "out"):
            (folder / name).mkdir(mode=0o700)
            if name == "state" and os.geteuid() == 0:
                mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}m,mode=700", "tmpfs", str(folder / name)]
                subprocess.run(mount, check=True)
            if os.geteuid() == 0:
                os.chown(folder / name, USER, USER)
        running = Pipeline(sockets, folder)
        try:
            running.start()
            yield running
        finally:
            running.close()
