"""Who waits for the open turn of an idle probe asks for its end: the cache for lookups, and a view of the events."""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from contextlib import closing, contextmanager
from select import select

import pytest

import dnstrail_cache.worker
import dnstrail_probe.worker
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds
from dnstrail.pipeline.view import EventView
from dnstrail.process.clock import StreamClock
from dnstrail.protocol import PROBES
from dnstrail.protocol.batches import TURN, Batch, decode
from dnstrail.protocol.replays import ReplayRequest, TurnRequests, encode_replay, replay_address
from live.processes import PATIENCE
from live.workers import FakeClock, asker, open_bus, running, short_folder, wait_until

NEVER = 1e6  # seconds
FEW_GATHER = {"_ENOUGH": math.inf, "_LONGEST_GATHER": NEVER}  # without an end


class Idle:
    """A live source that captures nothing."""

    def __init__(self) -> None:
        self.name, self.live, self.damage, self.capabilities, self.losses = "idle", True, "", (), {}
        self.counters: Counter[str] = Counter()
        self.lost_by_cgroup = ()
        self._nothing = threading.Event()

    def read(self, timeout: float) -> list[object]:
        """Return nothing after a moment."""
        self._nothing.wait(timeout)
        return []

    def close(self) -> None:
        """Close nothing."""


class Piped(Idle):
    """A live source with an event for each byte that is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptor, self._end = os.pipe()
        os.set_blocking(self.descriptor, False)
        self.taken = 0

    def read(self, timeout: float) -> list[tuple[str, Captured]]:
        """Return the events that were written."""
        assert timeout == 0, "it can be waited for"
        try:
            count = len(os.read(self.descriptor, 1 << 10))
        except BlockingIOError:
            return []
        self.taken += count
        return [(NET_PACKET_DNS, Captured(1, b"x"))] * count

    def write(self, count: int = 1) -> None:
        """Let events happen."""
        os.write(self._end, bytes(count))

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.descriptor)
        os.close(self._end)


class Containing(Piped):
    """A source in which containers begin, whose names are never known."""

    def __init__(self) -> None:
        super().__init__()
        self.names = self
        self.requested = 0
        self.begun, self._begin = os.pipe()

    def begin(self) -> None:
        """Let a container begin."""
        os.write(self._begin, b"x")

    def read(self, timeout: float) -> list[tuple[str, Captured]]:
        """Return the events that were written, and request the names of the containers that began."""
        if select([self.begun], [], [], 0)[0]:
            self.requested += len(os.read(self.begun, 1 << 10))
        return super().read(timeout)

    def known(self, _container: str) -> tuple[str, str, tuple[()]]:
        """Return no name."""
        return "", "", ()

    def is_awaited(self, _container: str) -> bool:
        """Let no event wait."""
        return False

    def close(self) -> None:
        """Close the pipes."""
        super().close()
        os.close(self.begun)
        os.close(self._begin)


@contextmanager
def piped(monkeypatch, source=None, **seconds: float):
    """Run the probe of a source whose events a test writes, and yield it, and its events and turns at a subscriber."""
    for name, value in {"HEARTBEAT": NEVER, **seconds}.items():
        monkeypatch.setattr(dnstrail_probe.worker, name, value)
    source = source or Piped()

    def target(bus, stop):
        publisher = bus.publisher(events_address(folder), lossless=False)
        replays = bus.server(replay_address(events_address(folder)))
        dnstrail_probe.worker.run(source, publisher, StreamClock(), stop, 1, replays=replays, bus=bus)

    with closing(source), short_folder() as folder, open_bus() as bus, running(target) as stop:
        subscriber = bus.subscriber([events_address(folder)], [NET_PACKET_DNS, TURN])
        received = []

        def events() -> int:
            while (message := subscriber.receive()) is not None:
                received.append(message)
            return sum(len(decode(body, Batch).events) for topic, body in received if topic == NET_PACKET_DNS)

        def turns() -> int:
            return sum(topic == TURN for topic, _ in received)

        try:
            wait_until(lambda: events() == 0 and received, "the first turn")
            yield source, events, bus, folder, turns
        finally:
            stop.set()


def test_an_event_ends_the_wait_of_an_idle_probe(monkeypatch):
    """A probe that waits without an end is woken by the first event, and by the stop signal."""
    with piped(monkeypatch) as (source, events, *_):
        for number in range(1, 4):
            source.write()
            wait_until(lambda number=number: events() == number, "the event")


def test_a_request_ends_a_turn_that_gathers_few_events(monkeypatch):
    """Few events gather until a subscriber asks for the end of the turn."""
    with piped(monkeypatch, Containing(), **FEW_GATHER) as (source, events, bus, folder, _):
        source.write()
        wait_until(lambda: events() == 1, "the first event")
        source.write()
        source.begin()  # so that the event is read
        wait_until(lambda: source.taken == 2, "the event in the open turn")
        assert events() == 1
        view = EventView(folder, (NET_PACKET_DNS,), (), bus, print, cache=False, take_findings=False)  # it may ask, too
        clock = FakeClock()

        def asked() -> bool:
            view.ask_for_turn()
            view.wait(0.01)
            view.take(clock)
            return events() == 2

        wait_until(asked, "the end of the turn")
        view.close()


def test_many_events_end_a_turn_that_gathers_few(monkeypatch):
    """256 events that a look finds end the turn, although it was to gather without an end."""
    with piped(monkeypatch, Containing(), **FEW_GATHER) as (source, events, *_):
        source.write()
        wait_until(lambda: events() == 1, "the first event")
        source.write(256)
        source.begin()
        wait_until(lambda: events() == 257, "all events")


def test_a_container_is_looked_at_while_events_gather(monkeypatch):
    """The name of a container that begins is requested at once; the turn that gathers few events stays open."""
    with piped(monkeypatch, Containing(), **FEW_GATHER) as (source, events, bus, *_):
        source.write()
        wait_until(lambda: events() == 1, "the first event")
        source.write()
        for number in range(1, 4):
            source.begin()
            wait_until(lambda number=number: source.requested == number, "the request")
        bus.wait(timeout=0.1)
        assert events() == 1


def ask_once(bus, folder) -> None:
    """Ask a probe once for the end of its open turn, whatever its number."""
    with closing(bus.requester(replay_address(events_address(folder)))) as requester:
        assert requester.request(encode_replay(ReplayRequest("", 0, 1 << 30)), PATIENCE) is not None


@pytest.mark.parametrize("written", [0, 1], ids=["idle", "while events gather"])
def test_one_request_ends_the_open_turn(monkeypatch, written):
    """One request ends the turn of a probe that waits without an end, whether for the first event or for more."""
    with piped(monkeypatch, _GATHER=NEVER, _LONGEST_GATHER=NEVER) as (source, events, bus, folder, turns):
        if written:
            source.write(written)
        wait_until(lambda: events() == written, "the events")
        before = turns()
        ask_once(bus, folder)
        wait_until(lambda: events() == written and turns() > before, "the turn that was asked for")


@pytest.fixture
def folder(monkeypatch):
    """Return the folder of a probe that runs, whose heartbeat never comes."""
    monkeypatch.setattr(dnstrail_probe.worker, "HEARTBEAT", math.inf)

    def target(bus, stop):
        publisher = bus.publisher(events_address(folder), lossless=False)
        replays = bus.server(replay_address(events_address(folder)))
        dnstrail_probe.worker.run(Idle(), publisher, StreamClock(), stop, 1, replays=replays)

    with short_folder() as folder, running(target):
        yield folder


def test_a_lookup_does_not_wait_for_the_heartbeat(folder):
    """A lookup after the open turn of an idle probe is complete, although neither a heartbeat nor its patience ends."""

    def target(bus, stop):
        server = bus.server(lookups_address(folder))
        subscriber = bus.subscriber([events_address(folder)], dnstrail_cache.worker.TOPICS)
        requests = TurnRequests([bus.requester(replay_address(events_address(folder)))], PROBES)
        dnstrail_cache.worker.run(bus, subscriber, server, FakeClock(), Bounds(), stop, turn_requests=requests)

    with running(target), asker(lookups_address(folder)) as client:
        wait_until(lambda: client.ask("health")["data"]["turns"], "the first turn")
        for _ in range(5):
            [(start, turn)] = client.ask("health")["data"]["turns"].items()
            assert client.ask("get", key="a.com", after=[(start, turn + 1)]) == {
                "v": 1,
                "ok": False,
                "error": "data_not_found",
                "message": "requested data was not found",
            }


def test_a_view_does_not_wait_for_the_heartbeat(folder):
    """A view of events that asks for turns receives one after the other."""
    with open_bus() as bus:
        view = EventView(folder, (NET_PACKET_DNS,), (), bus, print, cache=False, take_findings=False)
        clock, turns = FakeClock(), set()

        def received() -> bool:
            view.ask_for_turn()
            view.wait(0.05)
            view.take(clock)
            turns.update(() if view.last is None else (view.last.turn,))
            return len(turns) >= 4

        wait_until(received, "four turns")
        view.close()
