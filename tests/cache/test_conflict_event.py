from __future__ import annotations

import threading
from datetime import UTC, datetime

import dns.message
import msgpack
import pytest

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, findings_address, lookups_address
from dnstrail.captured import Captured, Flow
from dnstrail.image import Bounds, Image
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.batches import Batch, Turn
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.worker import TOPICS, Conflicts, run
from live.workers import BOUND, open_bus, probe, response, running, short_folder

CLIENT, SERVER = (bytes([192, 0, 2, 100]), 40000), (bytes([192, 0, 2, 53]), 53)
QUERY = Captured(1_000_000_000, dns.message.make_query("a.test", "A", id=1).to_wire(), Flow(*CLIENT, *SERVER))


def answer(at: int, address: str) -> Captured:
    """Return an answer to the query."""
    return Captured(at, response("a.test", f"a.test 60 A {address}"), Flow(*SERVER, *CLIENT))


def test_a_conflict_is_shown_in_wall_time():
    """The cache reports a conflict with the wall time of its answer: the difference in the last turn is added."""
    with short_folder() as folder, open_bus() as outside:
        puller = outside.puller(findings_address(folder))

        def cache(bus: ZmqBus, stop: threading.Event) -> None:
            server = bus.server(lookups_address(folder))
            subscriber = bus.subscriber([events_address(folder)], TOPICS)
            run(bus, subscriber, server, SystemClock(), Bounds(), stop, pusher=bus.pusher(findings_address(folder)))

        with running(cache), probe(folder) as publishing:
            publishing.turn(difference=7)
            publishing.turn(QUERY, answer(1_100_000_000, "192.0.2.1"), answer(1_300_000_000, "192.0.2.2"))
            outside.wait(puller, timeout=BOUND)
            event = msgpack.unpackb(puller.receive())
    assert (event["eventName"], event["timestamp"]) == ("dns_answer_conflict", 1_300_000_007)


class Pushed:
    """A pusher that keeps what is pushed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def push(self, body: bytes, wait: float = 0.0) -> bool:
        self.bodies.append(body)
        return True


@pytest.mark.parametrize(
    "conflict",
    [
        Captured(1, flow=Flow(SERVER[0], 53, b"\x0a\0\0", 40000)),
        Captured((1 << 64) - 1, flow=Flow(*SERVER, *CLIENT)),
        Captured(1, flow=Flow(*SERVER, *CLIENT), args={"at": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
    ids=["an address of three bytes", "a time beyond 64 bits", "a date as an argument"],
)
def test_a_conflict_that_has_no_shape_is_counted(conflict):
    """A conflict of which no finding can be made, since its probe is faulty, is counted and raises nothing."""
    state, pushed = CacheState(Image(Bounds()), SystemClock()), Pushed()
    state.follower.turn(Turn("s", 0, {}, False, 0, difference=7))
    conflicts = Conflicts(state, None, pushed)
    conflicts.report(conflict, Batch("s", 1, 0, []))
    conflicts.report(answer(1, "192.0.2.1"), Batch("s", 1, 1, []))
    assert (state.counters["bad_bus_message"], len(pushed.bodies)) == (1, 1)
