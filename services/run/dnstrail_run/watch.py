"""The pipeline that watches a command: the one that runs already, or one of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dnstrail.bus import Bus, ZmqBus
from dnstrail.bus.ipc import default_run_dir, lookups_address
from dnstrail.capture_options import CaptureOptions, options_of
from dnstrail.client import LookupClient
from dnstrail.errors import DnstrailError, LookupRefused, Unavailable
from dnstrail.pipeline.pipeline import Pipeline, Plan, run_folder, running
from dnstrail.pipeline.view import Emit, EventView
from dnstrail.process.clock import Clock
from dnstrail.process.privileges import drop_privileges, may_change_user
from dnstrail.users import service_user, user_of
from dnstrail_run.followed import TOPICS

_POLL = 0.05  # seconds
_PATIENCE = 3.0  # seconds for an answer of a running cache
_SILENCE = 10.0  #: seconds of silence of the probe of a running pipeline -> the capture is incomplete


class SilentProbe(DnstrailError):
    """The probe of the running pipeline stopped."""

    def __init__(self) -> None:
        super().__init__(f"the probe was silent for {_SILENCE:g} seconds")


class Joined:
    """A pipeline that runs already; `view` receives its events beside its other subscribers."""

    def __init__(self, view: EventView, clock: Clock) -> None:
        self.view = view
        self._clock = clock

    def work(self, stop: threading.Event, until: Callable[[], bool]) -> None:
        """Pass events on until a condition holds, or the probe is silent."""
        heard, last = self._clock.monotonic(), self.view.last
        while not stop.is_set() and not until():
            self.view.wait(_POLL)
            self.view.take(self._clock)
            if self.view.last is not last:
                heard, last = self._clock.monotonic(), self.view.last
            if self._clock.monotonic() - heard > _SILENCE:
                raise SilentProbe


def serves_live(run_dir: Path) -> bool:
    """Return whether a cache of a run-dir hears a live probe by eBPF."""
    client = LookupClient(lookups_address(run_dir), timeout=_PATIENCE)
    try:
        heard = client.request("health")["data"]["status"] in {"ok", "behind"}
        probes = client.request("stats")["data"]["probes"].values()
        return heard and any(probe["live"] and "sockets_found" in probe for probe in probes)
    except (Unavailable, LookupRefused, KeyError):
        return False
    finally:
        client.close()


@contextmanager
def joined(run_dir: Path, topics: tuple[str, ...], bus: Bus, emit: Emit, clock: Clock) -> Iterator[Joined | Pipeline]:
    """Listen to the pipeline of a run-dir, as the user to whom the folder belongs."""
    owner = run_dir.stat().st_uid
    if owner and may_change_user():
        drop_privileges(user_of(owner), dnspython=False)
    view = EventView(run_dir, topics, (), bus, emit, cache=True, take_findings=False)
    try:
        yield Joined(view, clock)
    finally:
        view.close()


@contextmanager
def watching(
    run_dir: Path | None, capture: str, options: CaptureOptions, emit: Emit, clock: Clock
) -> Iterator[Joined | Pipeline]:
    """Use the pipeline that runs in the run-dir, else start one."""
    given = run_dir or default_run_dir()
    bus = ZmqBus()
    try:
        if serves_live(given):
            with joined(given, TOPICS, bus, emit, clock) as watch:
                yield watch
            return
        user = service_user() if may_change_user() else None
        with run_folder(run_dir, user) as folder:
            plan = Plan(folder, capture, events=TOPICS, options=options_of(options), user=user)
            with running(plan, bus, emit, clock) as pipeline:
                yield pipeline
    finally:
        bus.close()


def is_heard(watch: Joined | Pipeline) -> bool:
    """Return whether the probe was heard; ask an idle one for a turn."""
    if watch.view.last is None:
        watch.view.ask_for_turn()
    return watch.view.last is not None
