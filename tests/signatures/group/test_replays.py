"""The probes that replay turns to a signature worker: each is asked for its own start, and none holds the worker."""

from __future__ import annotations

import threading

import pytest

from dnstrail.bus.ipc import events_address
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.replays import Replay, decode_request, encode_replay, replay_address
from dnstrail_signatures.group import missed_turns
from dnstrail_signatures.group.missed_turns import Gap, Replays
from live.workers import open_bus, short_folder


class Source:
    """A probe that replays one turn of its start."""

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
        assert [body for _, body in replays.turns(Gap(source.start, 4, 6))] == [source.start.encode()]
    assert sum(len(source.asked) for source in sources) <= 3 * len(sources)


@pytest.fixture
def silent(monkeypatch):
    """Return 70 requesters of probes that run no more, each of which would be awaited without end."""
    monkeypatch.setattr(missed_turns, "PATIENCE", 3600.0)
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
    assert [[*replays.turns(Gap(f"s{number}", 4, 6))] for number in range(70)] == [[]] * 70
