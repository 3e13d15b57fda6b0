"""The cost of the built-in signatures for an event."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from figures import Figure
from live_events import of_capture

from dnstrail.captured import Captured
from dnstrail.datasource import DataSources
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT, Event
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.testing import FakeDns
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.engine.time_budget import ProcessorClock
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.loading.signature_settings import is_on

EVENTS, LOOKUPS, ROUNDS = 24_000, 100_000, 3


class _Elsewhere(Signature):
    """A signature that selects an event that does not come."""

    metadata = SignatureMetadata("B-1", "1", "Elsewhere", "ELSEWHERE")
    selected_events = (EventSelector(name=SCHED_PROCESS_EXIT),)


def measure(capture: str) -> Iterator[Figure]:
    """Measure an engine with ROUNDS of the messages of a capture, each decoded as its first signature wants it."""
    captured = of_capture(capture)[:EVENTS]
    shipped = load(find())
    yield Figure(
        "a DNS event, all built-ins that are on", _cost([cls for cls in shipped if is_on(cls)], captured), "us"
    )
    yield Figure("a DNS event, all built-ins", _cost(shipped, captured), "us")
    yield Figure("a DNS event that none of 50 signatures wants", _cost([_Elsewhere] * 50, captured), "us")
    yield Figure("one look at the clock of the time budget", _cost_of_clock(), "us")


def _cost(classes: Iterable[type[Signature]], captured: list[Captured]) -> float:
    engine = Engine(classes, DataSources(FakeDns({})), lambda _finding: None)
    spent = 0.0
    for _ in range(ROUNDS):
        events = [Event(NET_PACKET_DNS, one, ("s", 0), place=(place,)) for place, one in enumerate(captured)]
        began = time.thread_time()
        for event in events:
            engine.on_event(event)
        spent += time.thread_time() - began
    return spent / len(captured) / ROUNDS * 1e6


def _cost_of_clock() -> float:
    clock, began = ProcessorClock(), time.thread_time()
    for _ in range(LOOKUPS):
        clock.seconds()
    return (time.thread_time() - began) / LOOKUPS * 1e6
