from __future__ import annotations

import threading

import dns.message
import msgpack

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, findings_address, lookups_address
from dnstrail.captured import Captured, Flow
from dnstrail.image import Bounds
from dnstrail.process.clock import SystemClock
from dnstrail_cache.worker import TOPICS, run
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
