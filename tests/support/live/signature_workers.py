"""Three workers of signatures over any log of a fleet, one killed and one joining, and what they report."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from builders.fleet import entry, row
from dnstrail.bus.ipc import findings_address
from dnstrail_fleet.row import encode_entry
from live.fleet_processes import ROOT
from live.processes import PATIENCE, started, text_of, wait_until

HOSTS = ("web1", "web2", "web3")
SETTINGS = """
[signature.FLEET_NEW_DOMAIN]
learn = 0
[signature.FLEET_NAME_SPREAD]
learn = 0
hosts = 3
"""
SIGNATURE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class StoredRelation(Signature):
    metadata = SignatureMetadata(id="MY-1", version="1", name="Stored", event_name="STORED_RELATION")
    selected_events = (EventSelector(name="dns_relation_new"),)

    def on_event(self, event):
        fleet, name = self.ctx.get_data_source("dnstrail", "fleet"), event.arg("question")
        hosts = [one["host"] for one in fleet.get(name)["hosts"]]
        if event.host_name not in hosts:
            self.report(event, name="not stored")
        if fleet.claim(self.metadata, name, event).is_first:
            self.report(event, name=name)
"""
EVENTS = ("FLEET_NEW_DOMAIN", "FLEET_NAME_SPREAD", "STORED_RELATION")
WORKER = """
import os, sys
sys.path[:0] = {paths!r}
from dnstrail_cli.fleet.signatures import signatures
{patch}
if {kill}:
    Log.acknowledge = lambda self, entries: os.kill(os.getpid(), 9)
signatures({options!r})
"""


class LogUnderTest(Protocol):
    """A log of a fleet. `patch` is code of a worker: it makes it read this log by the class `Log`, and soon anew."""

    option: str
    patch: str

    def put(self, host: str, body: bytes) -> None:
        """Append an entry of a host."""

    def is_done(self, hosts: Sequence[str]) -> bool:
        """Return whether all entries of hosts are acknowledged by the signatures."""


class Workers:
    """The workers of the signatures of a fleet, whose findings one process receives."""

    def __init__(self, folder: Path, run: Path, log: LogUnderTest, stack: ExitStack) -> None:
        self.lines = folder / "findings"
        self._run = run
        self._log = log
        self._stack = stack
        self._draw = random.Random(29)
        self._config = folder / "settings.toml"
        self._config.write_text(SETTINGS)
        self._signature = folder / "stored_relation.py"
        self._signature.write_text(SIGNATURE)
        for host in HOSTS:  # so that each worker finds all streams at its start
            self.send(host, "begin.example")
        given = ("findings", "--to", f"file:{self.lines}", "--cache", "none", "--run-dir", run, *ROOT)
        self._receiver = stack.enter_context(started(*given))

    def start(self, *, kill: bool = False) -> subprocess.Popen[str]:
        """Start a worker; with `kill` it is killed when it would acknowledge its first entries."""
        options = ["--engine", self._log.option, "--run-dir", str(self._run), *ROOT]
        options += ["--findings", findings_address(self._run), "--config", str(self._config)]
        options += ["--signatures", str(self._signature)]
        paths = [path for path in sys.path if path]
        program = WORKER.format(paths=paths, patch=self._log.patch, kill=kill, options=options)
        return self._stack.enter_context(process(program))

    def send(self, host: str, *names: str) -> None:
        """Let a host send a row for each name."""
        now = int(time.time())
        one = entry(host, *(row(name, f"192.0.2.{self._draw.randrange(9)}", at=now) for name in names), sent=now)
        self._log.put(host, encode_entry(one))

    def send_all(self, names: list[str]) -> None:
        """Let each host send each name, in an order of its own, some in one entry."""
        for host in HOSTS:
            left = self._draw.sample(names, len(names))
            while left:
                count = self._draw.randrange(1, 4)
                self.send(host, *left[:count])
                left = left[count:]

    def send_until(self, condition: Callable[[], bool]) -> list[str]:
        """Let each host send a further name again and again until a condition holds; return the names.

        The other workers may take all entries before.
        """
        names: list[str] = []

        def holds() -> bool:
            if condition():
                return True
            assert self._receiver.poll() is None, self._receiver.communicate()
            names.append(f"more{len(names)}.example")
            for host in HOSTS:
                self.send(host, names[-1])
            time.sleep(0.1)
            return False

        wait_until(holds, "a worker to take an entry")
        return names

    def await_all(self) -> None:
        """Wait until all entries are acknowledged."""
        wait_until(lambda: self._log.is_done(HOSTS), "all entries")

    def findings(self) -> Counter[tuple[str, str]]:
        """Return how often each event was reported of each name."""
        lines = text_of(self.lines).splitlines(keepends=True)  # the last one may be written in this moment
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return Counter((one["eventName"], argument(one, "name")) for one in found)


@contextmanager
def process(program: str) -> Iterator[subprocess.Popen[str]]:
    """Start a worker, and wait until it is ready."""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as found:
        log = found.stderr
        assert log is not None
        try:
            assert json.loads(log.readline())["event"] == "ready"
            yield found
        finally:
            found.kill()
            if not log.closed:
                sys.stderr.write(log.read())  # for the report of a test that fails


def argument(finding: dict[str, Any], name: str) -> str:
    """Return an argument of a finding."""
    return next(str(one["value"]) for one in finding["args"] if one["name"] == name)


def end(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """End a worker; return the last line of its log."""
    worker.terminate()
    _, log = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0, log
    last: dict[str, Any] = json.loads(log.splitlines()[-1])
    return last


def each_name_is_reported_once(workers: Workers) -> None:
    """Kill a worker, let one join, and end two: each name is reported once, and the store has it by then."""
    parts = [[f"{part}{number}.example" for number in range(12)] for part in "abc"]
    killed, *others = workers.start(kill=True), workers.start(), workers.start()
    workers.send_all(parts[0])
    more = workers.send_until(lambda: killed.poll() is not None)
    assert killed.returncode == -signal.SIGKILL
    others.append(workers.start())
    workers.send_all(parts[1])
    workers.await_all()
    assert {end(one)["event"] for one in others[:2]} == {"stopped"}
    workers.send_all(parts[2])
    workers.await_all()
    assert end(others[2])["entries"] >= len(HOSTS) * len(parts[2]) // 3
    names = ["begin.example", *more, *(name for part in parts for name in part)]
    expected = Counter((event, name) for event in EVENTS for name in names)
    wait_until(lambda: workers.findings().keys() >= expected.keys(), "all findings")
    assert workers.findings() == expected
