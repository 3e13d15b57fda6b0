"""The whole pipeline in one run: the plan of its workers, their processes, and the view of their events."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dnstrail.bus import Bus
from dnstrail.bus.ipc import (
    events_address,
    findings_address,
    lookups_address,
    outputs_address,
    published_address,
    sole_server,
)
from dnstrail.client import LookupClient
from dnstrail.errors import Unavailable
from dnstrail.pipeline import MEMORY
from dnstrail.pipeline.children import Children, WorkerDied
from dnstrail.pipeline.view import Emit, EventView, derivation
from dnstrail.process.clock import Clock
from dnstrail.process.command import NONE
from dnstrail.process.config_file import NO_FILE
from dnstrail.process.privileges import drop_privileges, share_signals
from dnstrail.process.run_dir import check_run_dir, hand_over
from dnstrail.protocol import PROBES
from dnstrail.temporary_folder import temporary_folder
from dnstrail.users import User

_POLL = 0.05  # seconds between looks at children and the stop signal
_PATIENCE = 10.0  # seconds for an answer of the cache to this process
_CATCHING_UP = 120.0  # seconds for the cache to apply the events of a file


class Plan(msgspec.Struct, frozen=True):
    """The workers of a run: the source, the options of each worker, and the events to show."""

    run_dir: Path
    capture: str
    cache: bool = True
    dnscache: tuple[str, ...] = ()
    signatures: tuple[Path, ...] = ()
    findings: tuple[str, ...] = ()
    named: bool = True  # `--events` names the findings; else they are those of the enabled signatures
    events: tuple[str, ...] = ()
    speed: float | None = None
    options: tuple[str, ...] = ()  # --dns-ports and --evidence, for the probe
    user: User | None = None
    memory: int = MEMORY
    probes: int | None = None  # the runs of probes that the workers follow, if not as their settings state
    config: str = NO_FILE
    to: tuple[str, ...] = ()  # the outputs of findings, besides `emit`
    history: Path | None = None  # the folder of a worker that keeps the facts of a live source
    web: str | None = None  # the address of the page
    listeners: int = 1  # subscribers of the probe beside the workers: this process, and others that it waits for

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of findings, that for the page among them."""
        published = f"pub:{published_address(self.run_dir)}"
        return (*self.to, published) if self.web is not None and self.findings else self.to

    @property
    def commands(self) -> dict[str, list[str]]:
        """The arguments of each worker, in the order of their starts: a subscriber starts before its publisher.

        They name all sockets, so that those in the settings file do not count.
        """
        common = ["--config", self.config, "--run-dir", str(self.run_dir)]
        events, lookups = events_address(self.run_dir), lookups_address(self.run_dir)
        cache = lookups if self.cache else NONE
        unprivileged = [*common, "--findings", findings_address(self.run_dir), "--subscribe", events]
        unprivileged += [] if self.probes is None else ["--probes", str(self.probes)]
        user = [] if self.user is None else ["--user", f"{self.user.uid}:{self.user.gid}"]
        unprivileged += user
        workers: dict[str, list[str]] = {}
        if self.cache:
            workers["cache"] = [*unprivileged, "--serve", lookups, *_each("--dnscache", self.dnscache)]
        if self.outputs:  # it ends after those whose findings it receives, and before the cache that explains them
            workers["findings"] = [
                *("--run-dir", str(self.run_dir)),
                *("--receive", outputs_address(self.run_dir), "--cache", cache),
                *_each("--to", self.outputs),
                *user,
            ]
        if self.history is not None:
            workers["history"] = [*common, "--folder", str(self.history), *user]
        mutes = ["--mutes", str(self.run_dir / "web.mutes")] if self.web is not None else []
        if self.web is not None:
            workers["web"] = [
                *(*common, "--listen", self.web, "--cache", lookups, "--findings", published_address(self.run_dir)),
                *("--folder", NONE if self.history is None else str(self.history), *mutes, *user),
            ]
        if self.findings:
            workers["signatures"] = [
                *unprivileged,
                *("--group", "none", "--cache", cache, *mutes),
                *_each("--select", self.findings if self.named else ()),
                *_each("--signatures", map(str, self.signatures)),
            ]
        listeners = len(workers.keys() & {"cache", "signatures"}) + self.listeners
        workers["probe"] = [*common, "--publish", events, "--capture", self.capture, *self.options]
        workers["probe"] += ["--subscribers", str(listeners), *user]
        workers["probe"] += [] if self.speed is None else ["--speed", str(self.speed)]
        return workers


class Pipeline:
    """A run of a plan, whose events and findings `view` passes to `emit`.

    If a worker dies, the run ends and names it.
    """

    def __init__(self, plan: Plan, children: Children, bus: Bus, emit: Emit, clock: Clock) -> None:
        self.plan = plan
        self.children = children
        self._bus = bus
        self._clock = clock
        self._outputs = outputs = bus.pusher(outputs_address(plan.run_dir)) if plan.outputs else None
        self.view = EventView(
            plan.run_dir,
            plan.events,
            plan.findings,
            bus,
            emit,
            cache=plan.cache,
            outputs=outputs,
            probes=plan.probes or PROBES,
        )

    @property
    def started(self) -> bool:
        """True once the probe was heard, which publishes from now on, and all outputs of findings were tried."""
        return self.view.last is not None and (self._outputs is None or self._outputs.connected)

    @property
    def ended(self) -> bool:
        """True once the source has ended, and the signatures have handled all of its events."""
        return self.view.ended

    def work(self, stop: threading.Event, until: Callable[[], bool]) -> None:
        """Pass events and findings on until a condition holds or the stop signal is set.

        Raises:
            WorkerDied: a worker ended by itself, other than the probe at the end of its source.
            WorkerHung: the main loop of a worker stood still.
        """
        while not stop.is_set() and not until():
            self.view.wait(_POLL)
            ended = self.children.ended()  # before the last messages are taken: they still count
            self.view.take(self._clock)
            self._check(ended)
            self.children.check_heartbeats(self._clock.monotonic())

    def stats(self, stop: threading.Event) -> dict[str, Any]:
        """Return the counters of the cache once it has applied the last turn; {} without an answer of a cache."""
        last = self.view.last
        if not self.plan.cache or last is None:
            return {}
        client = LookupClient(lookups_address(self.plan.run_dir), timeout=_PATIENCE, bus=self._bus)
        deadline = self._clock.monotonic() + _CATCHING_UP
        try:
            while True:
                reply = client.request("stats", after=[(last.start, last.turn)])
                if reply["complete"] or self._clock.monotonic() > deadline or stop.wait(_POLL):
                    data: dict[str, Any] = reply["data"]
                    return data
        except Unavailable:
            return {}
        finally:
            client.close()

    def take_last(self, stats: dict[str, Any]) -> None:
        """Pass on the last messages of the workers: `stats` count the facts."""
        self.view.wait(_POLL)
        self.view.take(self._clock)
        self.view.take_facts(stats.get("cache", {}).get("facts_published", 0), self._clock)

    def _check(self, ended: dict[str, int]) -> None:
        last = self.view.last
        for worker, code in ended.items():
            finished = worker == "probe" and code == 0 and last is not None and last.ended
            if not finished:
                raise WorkerDied(worker, code)


@contextmanager
def running(plan: Plan, bus: Bus, emit: Emit, clock: Clock) -> Iterator[Pipeline]:
    """Start the workers of a plan, and stop them at the end of the block, whatever happens in it.

    With a user in the plan, the run-dir belongs to this user, and this process becomes it before it receives anything.

    Raises:
        BusError: the run-dir is not safe, or another pipeline uses it.
    """
    check_run_dir(plan.run_dir, plan.user)
    if plan.user is not None:
        hand_over(plan.run_dir, plan.user)
        share_signals(plan.user)  # so that the workers can be ended without rights
    if plan.web is not None:
        _remove_link(plan)
    children = Children(plan.commands, plan.memory)
    derivation(plan.events)  # that user may be unable to import it
    with children.running():
        drop_privileges(plan.user)
        _await_page(plan, children, clock)
        pipeline = Pipeline(plan, children, bus, emit, clock)
        try:
            yield pipeline
        finally:
            pipeline.view.close()


def _remove_link(plan: Plan) -> None:
    """Remove the link that an earlier page left: a link states that the page has started.

    Raises:
        BusError: another page uses the run-dir.
    """
    if plan.user is None:  # else its locks were tried when the run-dir was handed over
        with sole_server(f"ipc://{plan.run_dir}/web") as lock:
            os.close(lock)
    (plan.run_dir / "web.link").unlink(missing_ok=True)


def _await_page(plan: Plan, children: Children, clock: Clock) -> None:
    """Wait until the page has subscribed: the probe of a file begins once this process subscribes.

    Raises:
        WorkerDied: a worker ended by itself.
    """
    deadline = clock.monotonic() + _PATIENCE
    while plan.web is not None and not (plan.run_dir / "web.link").exists() and clock.monotonic() < deadline:
        for worker, code in children.ended().items():
            raise WorkerDied(worker, code)
        clock.sleep(_POLL)


@contextmanager
def run_folder(run_dir: Path | None, user: User | None) -> Iterator[Path]:
    """Yield the folder of the sockets: the one given, or a private one that is removed at the end."""
    if run_dir is not None:
        yield run_dir
        return
    with temporary_folder("dnstrail-run-", () if user is None else (user.uid,)) as folder:
        if user is not None:
            os.chown(folder, user.uid, user.gid)  # this process becomes the user, and removes the folder
        yield folder / "run"


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
