"""The decoder beside dnspython, and its worst message beside usual ones."""

from __future__ import annotations

import time
from collections.abc import Iterator

from baselines import parse_cost
from figures import Figure
from live_events import is_answered, of_capture

from builders.hostile import BOMBS, MESSAGE_LIMIT
from dnstrail.dns import decode

_RUNS = 5


def measure(capture: str) -> Iterator[Figure]:
    """Measure the decoder that reads every kind of answer."""
    answered = [event.payload for event in of_capture(capture) if is_answered(event.payload)]
    cost = _cost(answered)
    yield Figure("an answered message", cost, "us")
    yield Figure("an answered message, of dnspython's time", cost / parse_cost(answered))
    costs = {name: _cost([wire]) for name, wire in BOMBS.items()}
    worst = max(costs, key=lambda name: costs[name])
    usual = cost * MESSAGE_LIMIT / (sum(map(len, answered)) / len(answered))
    yield Figure("worst message of 64 KiB", costs[worst] / 1000, "ms")
    yield Figure("worst message of 64 KiB, against as many usual bytes", costs[worst] / usual, "times")


def _cost(payloads: list[bytes]) -> float:
    return min(_once(payloads) for _ in range(_RUNS))


def _once(payloads: list[bytes]) -> float:
    began = time.thread_time()
    for payload in payloads:
        decode(payload)  # the result is freed at once, as in the workers
    return (time.thread_time() - began) / len(payloads) * 1e6
