"""The cost of an event as users read it: its JSON line, from the captured bytes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

from baselines import parse_cost
from figures import Figure
from live_events import HOST, START, of_capture

from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.process.terminal import json_line
from dnstrail.tracee import event_map

_RUNS = 3


def measure(capture: str) -> Iterator[Figure]:
    """Measure the JSON lines of the messages of a capture."""
    captured = of_capture(capture)
    least = min(_cost([Event(NET_PACKET_DNS, one, (START, 0), HOST) for one in captured]) for _ in range(_RUNS))
    yield Figure("an event as a JSON line", least, "us")
    yield Figure("the same, of dnspython's time", least / parse_cost([one.payload for one in captured]))


def _cost(events: list[Event]) -> float:
    began = time.thread_time()
    for event in events:
        json_line(event_map(event))
    return (time.thread_time() - began) / len(events) * 1e6
