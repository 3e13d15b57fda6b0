"""The probes that replay turns to a signature worker: each is asked for its own start, and none holds the worker."""

from __future__ import annotations

import threading

import pytest

from dnstrail.bus.ipc import events_address
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.replays import Replay, decode_request, encode_replay, replay_address
from dnstrail_signatures.group import replays as of_probes
from dnstrail_signatures.group.replays import Gap, Replays
from live.workers import FakeClock, open_bus, short_folder


class Source:
    """A probe of this host that replays one turn of its start."""

    remote = None

    def __init__(self, start: str) -> None:
        self.start = start
        self.asked: list[str] = []

    def send(self, body: bytes) -> bool:
        """Receive a request."""
        self.asked.append(decode_request(body).start)
        return True

    def reply(self) -> bytes:
        """Return the turn, or nothing for another start."""
        messages = [(TURN, self.start.encode())] if self.asked[-1] == self.start else []
        return encode_replay(Replay(messages, 5, self.start))


class Bus:
    """A bus on which nothing waits."""

    def wait(self, *_ends: object, timeout: float) -> None:
        """Return at once."""


def test_each_probe_is_asked_for_its_own_start():
    """Once a probe has named its start it is asked for no other one, so that many probes cost few requests."""
    sources = [Source(f"s{number}") for number in range(50)]
    replays = Replays(Bus(), sources)
    for source in reversed(sources):
        assert [body for _, body in replays.turns(Gap(source.start, 4, 6, 4))] == [source.start.encode()]
    assert sum(len(source.asked) for source in sources) <= 3 * len(sources)


class Slow(Source):
    """A probe that replays its turns one after the other, each just in time."""

    def __init__(self, start: str, clock: FakeClock) -> None:
        super().__init__(start)
        self._clock = clock
        self._sent = 0.0
        self._turn = 0

    def send(self, body: bytes) -> bool:
        """Receive a request."""
        self._sent = self._clock.monotonic()
        self._turn = decode_request(body).after + 1
        return super().send(body)

    def reply(self) -> bytes | None:
        """Return one turn, as late as possible; the name of the start at once."""
        if self._turn and self._clock.monotonic() < self._sent + of_probes.PATIENCE - 0.1:
            return None
        return encode_replay(Replay([(TURN, b"")] if self._turn else [], self._turn, self.start))


def test_a_probe_that_replays_slowly_holds_the_worker_for_a_bounded_time(monkeypatch):
    """A probe may have many turns and send each of them in time: it is given up after 30 seconds of waiting in all."""
    clock = FakeClock()
    monkeypatch.setattr(of_probes.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(Bus, "wait", lambda *_ends, timeout: clock.advance(timeout))
    replays = Replays(Bus(), [Slow("slow", clock)])
    for _ in range(2):
        began = clock.monotonic()
        replays.begin()
        turns = [*replays.turns(Gap("slow", 4, 1000, 4)), *replays.turns(Gap("slow", 1000, 2000, 1000))]
        assert len(turns) == int(of_probes.MOST_WAIT / (of_probes.PATIENCE - 0.1))
        assert clock.monotonic() - began < of_probes.MOST_WAIT + of_probes.PATIENCE


@pytest.fixture
def silent(monkeypatch):
    """Return 70 requesters of probes that run no more, each of which would be awaited without end."""
    monkeypatch.setattr(of_probes, "PATIENCE", 3600.0)
    with short_folder() as folder, open_bus() as bus:
        sources = [bus.requester(replay_address(events_address(folder / str(number)))) for number in range(70)]
        yield bus, sources
        for source in sources:
            source.close()


def test_a_worker_that_is_to_end_awaits_no_replay(silent):
    """Whatever is missed of many probes that do not answer, a worker asks no further once the stop signal is set."""
    bus, sources = silent
    stop = threading.Event()
    replays = Replays(bus, sources, stop.set, stop)
    assert [[*replays.turns(Gap(f"s{number}", 4, 6, 4))] for number in range(70)] == [[]] * 70
