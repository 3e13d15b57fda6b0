"""The whole pipeline as a user runs it, on the real kernel: its workers, events and counters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dnstrail.bus.ipc import lookups_address
from live.processes import PATIENCE, children_of, command_line, run_dir, wait_until
from live.workers import asker


class Run:
    """A running pipeline with its output so far."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, out: Path, err: Path) -> None:
        self.process = process
        self.folder = folder
        self._out = out
        self._err = err

    @property
    def events(self) -> list[dict]:
        """Return the events so far."""
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def containing(self, text: str) -> list[dict]:
        """Return the events so far whose lines contain a text: others of the host can be many."""
        lines = self._out.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if text in line and line.endswith("\n")]

    @property
    def errors(self) -> str:
        """Return its stderr."""
        return self._err.read_text()

    def named(self, name: str) -> list[dict]:
        """Return the events of one name."""
        return [event for event in self.events if event["eventName"] == name]

    def worker(self, name: str) -> int:
        """Return the process of a worker."""
        return next(child for child in children_of(self.process.pid) if f"dnstrail_{name}" in command_line(child))

    def stats(self) -> dict:
        """Return the counters of the cache."""
        with asker(lookups_address(self.folder)) as client:
            return client.ask("stats")["data"]


def askers_below(run: Run, suffix: str) -> dict[str, set[tuple[str, str]]]:
    """Return who asked each name below a suffix, by the facts of a pipeline: names and images of containers."""
    found: dict[str, set[tuple[str, str]]] = {}
    for event in run.containing(f'.{suffix}"'):
        asked = {one["name"]: one["value"] for one in event["args"]}
        if asked["hop"] == "client":
            container = event["container"]
            found.setdefault(asked["name"], set()).add((container.get("name", ""), container.get("image", "")))
    return found


def counted(run: Run, reason: str) -> int:
    """Return a counter of the probe."""
    return sum(probe.get(reason, 0) for probe in run.stats()["probes"].values())


def check_container_names(run: Run, domain: str, name: str, image: str, count: int) -> None:
    """Wait for the facts below a domain, and compare the container of each with its name, of which {} is the number.

    On a busy host, a name can come after the 200 ms for which the facts wait, or be requested when the runtime has
    forgotten the container: it is missing, and counted.
    """
    wait_until(lambda: len(askers_below(run, domain)) == count, "the facts")
    expected = {f"c{number}.{domain}": {(name.format(number), image)} for number in range(count)}
    found = askers_below(run, domain)
    named = {asked: containers for asked, containers in found.items() if containers != {("", "")}}
    assert named == {asked: expected[asked] for asked in named}
    assert len(named) >= count // 2
    reasons = ("container_names_late", "container_names_unknown")
    wait_until(lambda: sum(counted(run, each) for each in reasons) >= count - len(named), "the names that are missing")


@contextmanager
def pipeline(*arguments: str, within: Sequence[str] = ()) -> Iterator[Run]:
    """Run the documented command line on the real kernel until it is ready; `within` is a command that runs it."""
    with run_dir() as folder:
        folder.chmod(0o755)  # the user of the workers must reach the sockets inside
        out, err = folder / "out", folder / "err"
        command = [*within, sys.executable, "-m", "dnstrail_cli", "--run-dir", str(folder / "run"), *arguments]
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "SUDO_UID": ""})
            run = Run(process, folder / "run", out, err)
            try:
                wait_until(lambda: "dnstrail: ready" in run.errors or process.poll() is not None, "the pipeline")
                assert process.poll() is None, run.errors
                yield run
            finally:
                process.send_signal(signal.SIGINT)
                for pid in children_of(process.pid) if within else ():
                    os.kill(pid, signal.SIGINT)
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
