"""The whole pipeline in one run: the workers as child processes, their events and findings in one stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dnstrail.bus import Bus
from dnstrail.bus.ipc import events_address, findings_address, group_id, lookups_address
from dnstrail.client import DnsDataSource, LookupClient
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.errors import BadMessage, DnstrailError, SettingsError, Unavailable
from dnstrail.events import Event
from dnstrail.process.privileges import User
from dnstrail.process.signals import PARENT
from dnstrail.protocol.batches import TURN, Batch, Turn, decode, unpack
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail.tracee import event_map

_POLL = 0.05  # seconds between looks at children and the stop signal
_GRACE = 5.0  # seconds that a child has to end by itself
_PATIENCE = 10.0  # seconds for an answer of the cache to this process
_TIMEOUT = 0.5  # seconds for the names of connections
_CATCHING_UP = 120.0  # seconds for the cache to apply what a file gave
Emit = Callable[[dict[str, Any]], None]


class WorkerDied(DnstrailError):
    """A worker of this run ended by itself."""

    def __init__(self, worker: str, code: int) -> None:
        self.worker = worker
        self.code = code
        super().__init__(f"the {worker} worker ended with {code}: see its lines above")


class Plan(msgspec.Struct, frozen=True):
    """What to run: the source, the options of the workers, and which events to show."""

    run_dir: Path
    capture: str
    cache: bool = True
    dnscache: tuple[str, ...] = ()
    signatures: tuple[Path, ...] = ()
    findings: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    parse_arguments: bool = False
    speed: float | None = None
    options: tuple[str, ...] = ()  # the probe's options that say what it looks for
    user: User | None = None
    log_level: str = "warning"

    @property
    def commands(self) -> dict[str, list[str]]:
        """The arguments of each worker, in the order in which they start: whoever listens before who speaks."""
        common = ["--run-dir", str(self.run_dir), "--log-level", self.log_level]
        unprivileged = [*common, "--findings", findings_address(self.run_dir)]
        if self.user is not None:
            unprivileged += ["--user", f"{self.user.uid}:{self.user.gid}"]
        workers: dict[str, list[str]] = {}
        if self.cache:
            workers["cache"] = [*unprivileged, *_each("--dnscache", self.dnscache)]
        if self.findings:
            workers["signatures"] = [
                *unprivileged,
                *_each("--select", self.findings),
                *_each("--signatures", map(str, self.signatures)),
                *([] if self.cache else ["--no-cache"]),
            ]
        listeners = len(workers) + 1  # and this process
        workers["probe"] = [*common, "--capture", self.capture, "--subscribers", str(listeners), *self.options]
        workers["probe"] += [] if self.user is None else ["--user", f"{self.user.uid}:{self.user.gid}"]
        workers["probe"] += [] if self.speed is None else ["--speed", str(self.speed)]
        return workers


class Pipeline:
    """A run of a plan. `ended`: the source has ended and all that it gave was worked on."""

    def __init__(self, plan: Plan, bus: Bus, emit: Emit) -> None:
        self.plan = plan
        self.ended = False
        self.shown = 0
        self._emit = emit
        self._bus = bus
        if plan.user is not None:
            _hand_over(plan.run_dir, plan.user)
        self._findings = bus.puller(findings_address(plan.run_dir))
        self._events = bus.subscriber([events_address(plan.run_dir)], [*plan.events, TURN])
        self._dns = self._data_source()
        self._names = ConnectionEnricher(self._dns)
        self._turns = TurnFollower(plan.events)
        report = partial(self._dns.client.report_losses, worker_name("dnstrail")) if self._dns else None
        self._loss_log = LossReporter(report) if report else LossReporter()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._last: Turn | None = None
        self._signatures_done = not plan.findings

    @contextmanager
    def running(self) -> Iterator[Pipeline]:
        """Around the run: the workers are started, and stopped whatever happens."""
        try:
            for worker, arguments in self.plan.commands.items():
                self._children[worker] = _start(worker, arguments)
            yield self
        finally:
            self._loss_log.close(self._turns.lost)
            _stop(self._children)
            if self._dns is not None:
                self._dns.close()

    def work(self, stop: threading.Event, until: Callable[[], bool]) -> None:
        """Show events and findings until a condition holds or the stop signal is set.

        Raises:
            WorkerDied: a worker ended by itself (but for a probe whose source has ended).
        """
        while not stop.is_set() and not until():
            self._bus.wait(self._events, self._findings, timeout=_POLL)
            ended = {worker: code for worker, child in self._children.items() if (code := child.poll()) is not None}
            while (message := self._events.receive()) is not None:
                self._on_message(*message)
            self._take_findings()
            self._check(ended)

    @property
    def started(self) -> bool:
        """Whether the probe is heard: it publishes from now on."""
        return self._last is not None

    def stats(self) -> dict[str, Any]:
        """What the cache has counted, once it has seen the last turn; {} where there is no cache that tells."""
        if not self.plan.cache or self._last is None:
            return {}
        client = LookupClient(lookups_address(self.plan.run_dir), timeout=_PATIENCE, bus=self._bus)
        deadline = time.monotonic() + _CATCHING_UP
        try:
            while True:
                reply = client.request("stats", after=[(self._last.start, self._last.turn)])
                if reply["complete"] or time.monotonic() > deadline:
                    data: dict[str, Any] = reply["data"]
                    return data
                time.sleep(_POLL)
        except Unavailable:
            return {}
        finally:
            client.close()

    def take_last_findings(self) -> None:
        """Show what the workers sent before their last word."""
        self._bus.wait(self._findings, timeout=_POLL)
        self._take_findings()

    def _data_source(self) -> DnsDataSource | None:
        """Where the names of the connections that are shown come from; it is told of the events that could not be."""
        if not self.plan.cache:
            return None
        return DnsDataSource(lookups_address(self.plan.run_dir), timeout=_TIMEOUT, bus=self._bus)

    def _take_findings(self) -> None:
        while (body := self._findings.receive()) is not None:
            self._on_finding(body)

    def _on_message(self, topic: str, body: bytes) -> None:
        try:
            if topic == TURN:
                self._last = decode(body, Turn)
                self._turns.turn(self._last)
                self._loss_log.note(self._turns.lost, time.monotonic())
                self.ended = self._last.ended and self._signatures_done
                return
            batch = decode(body, Batch)
        except BadMessage:
            return  # counted by the workers that need it
        self._turns.batch(topic, batch)
        mark = (batch.start, batch.turn)
        for event in self._names.fill([Event(topic, captured, mark, batch.host) for captured in batch.events]):
            self._show(event_map(event, parse_arguments=self.plan.parse_arguments))

    def _on_finding(self, body: bytes) -> None:
        try:
            message = msgspec.convert(unpack(body), dict[str, Any])
        except (BadMessage, msgspec.ValidationError):
            return  # none of our workers sent it
        if message.get("eventName") in (*self.plan.events, *self.plan.findings):
            self._show(message)
        elif "signal" in message:  # the signature worker has worked on all that the source gave
            self._signatures_done = True
            self.ended = self._last is not None and self._last.ended

    def _show(self, event: dict[str, Any]) -> None:
        self.shown += 1
        self._emit(event)

    def _check(self, ended: dict[str, int]) -> None:
        for worker, code in ended.items():
            finished = worker == "probe" and code == 0 and self._last is not None and self._last.ended
            if not finished:
                raise WorkerDied(worker, code)


def _hand_over(run_dir: Path, user: User) -> None:
    """Give the folder of the sockets to the user as whom all workers but the probe will run.

    Raises:
        SettingsError: the folder holds anything but our sockets, so it is not ours to give.
    """
    run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    owner = run_dir.stat().st_uid
    if owner == user.uid:
        return
    if any(entry.suffix not in (".sock", ".lock") for entry in run_dir.iterdir()):
        raise SettingsError(f"{run_dir} holds other things than sockets: choose a folder of its own with --run-dir")
    group = group_id()
    for entry in run_dir.iterdir() if owner == 0 else ():  # only root can have put these there
        os.chown(entry, user.uid, user.gid, follow_symlinks=False)
    os.chown(run_dir, user.uid, user.gid if group < 0 else group)


def _each(option: str, values: Iterator[str] | tuple[str, ...] | map[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _start(worker: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """A worker of its own session: signals reach it through this process, which it does not outlive."""
    command = [sys.executable, "-P", "-m", f"dnstrail_{worker}", *arguments]  # not from the folder that we are in
    return subprocess.Popen(  # noqa: S603 - our own modules
        command, env={**os.environ, PARENT: str(os.getpid())}, stdout=2, start_new_session=True
    )


def _stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for child in children.values():
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    for child in children.values():
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
