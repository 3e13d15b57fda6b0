"""The cost of an event on the bus: at the probe, at a subscriber, and at a signature worker that does not want it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from figures import Figure
from live_events import of_capture

from dnstrail.bus import ZmqBus
from dnstrail.captured import Captured, Flow, Process
from dnstrail.dns import is_response
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import Batch, decode, encode
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.worker import SignatureWorker

EVENTS, PROCESSES, RUNS = 1000, 10, 20
_FLOW = Flow(bytes([10, 0, 0, 1]), 40000, bytes([10, 0, 0, 2]), 53)


class _Wanting(Signature):
    metadata = SignatureMetadata("B-1", "1", "Wanting", "WANTED")
    selected_events = (EventSelector(name=NET_PACKET_DNS, origin="host"),)

    def on_event(self, event: object) -> None:
        """Do nothing."""


class _Refusing(_Wanting):
    selected_events = (EventSelector(name=NET_PACKET_DNS, origin="container"),)


def measure(capture: str) -> Iterator[Figure]:
    """Measure batches of EVENTS responses to PROCESSES processes of the host."""
    payloads = [event.payload for event in of_capture(capture) if is_response(event.payload)]
    processes = [Process(number, "app", "/usr/bin/app", start_time=10**18) for number in range(1, PROCESSES + 1)]
    events = [
        Captured(10**18 + number, payloads[number % len(payloads)], _FLOW, processes[number % PROCESSES])
        for number in range(EVENTS)
    ]
    batch = Batch("s", 0, 0, events)
    body = encode(batch)
    yield Figure("an event, written", _cost(lambda: encode(batch)), "us")
    yield Figure("an event, received", _cost(lambda: decode(body, Batch)), "us")
    yield Figure("an event, read", _cost(lambda: [*decode(body, Batch).events]), "us")
    yield Figure("an event that a signature wants", _worker_cost(_Wanting, body), "us")
    yield Figure("an event that no signature wants", _worker_cost(_Refusing, body), "us")


def _worker_cost(cls: type[Signature], body: bytes) -> float:
    bus = ZmqBus()
    try:
        worker = SignatureWorker(bus.subscriber([], [NET_PACKET_DNS]), Chosen.of(cls), Delivery(lambda _: None))
        return _cost(lambda: worker.on_message(NET_PACKET_DNS, body, 0.0))
    finally:
        bus.close(now=True)


def _cost(call: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return sorted(times)[RUNS // 2] / EVENTS * 1e6
