"""Lookups in the process of the cache, for every name and address of a capture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from baselines import parse_cost
from figures import Figure, spread
from live_events import is_answered, of_capture
from stopwatch import times

from dnstrail.dns.names import address_text
from dnstrail.events import EFFECTS, NET_PACKET_DNS
from dnstrail.image import Bounds, Image
from dnstrail.image.apply import apply_event

MANY = 32


def measure(capture: str) -> Iterator[Figure]:
    """Measure each kind of lookup on all keys that the image holds."""
    events, image = of_capture(capture), Image(Bounds())
    for event in events:
        apply_event(image, EFFECTS[NET_PACKET_DNS], event, live=True)
    keys = [*{*image.store.graph.out, *image.store.graph.into}]
    addresses = [key for key in keys if address_text(key) == key]
    names = [key for key in keys if address_text(key) is None]
    at = [event.timestamp for event in events if is_answered(event.payload)][-len(events) // 100]
    groups = [keys[start : start + MANY] for start in range(0, len(keys), MANY)]
    yield Figure("names", len(names))
    yield Figure("addresses", len(addresses))
    parse = parse_cost([event.payload for event in events if is_answered(event.payload)])
    for title, of_kind in (("get by name", names), ("get by address", addresses)):
        mean, *others = _spread(title, of_kind, image.get)
        yield from (
            mean,
            Figure(f"{mean.title}, of dnspython's time for a message", (mean.value or 0) / parse),
            *others,
        )
    yield from _spread("get of a name that is missing", [f"{name}.missing" for name in names], image.get)
    yield from _spread("get at a past time", keys, lambda key: image.get(key, at=at))
    many = times(groups, image.get_many, time.perf_counter_ns)
    yield from spread(f"get_many of {MANY}, a key", [sample / MANY for sample in many], "us", "p50", "p99")


def _spread(title: str, keys: list[str], call: Callable[[str], object]) -> Iterator[Figure]:
    """Yield the mean of all calls, measured around them, and percentiles of single ones.

    The clock of the CPU time is a system call: between two lookups it would slow the next one.
    """
    _, *shares = spread(title, times(keys, call, time.perf_counter_ns), "us", "p50", "p99")
    began = time.thread_time()
    for key in keys:
        call(key)
    yield Figure(f"{title}: mean", (time.thread_time() - began) / len(keys) * 1e6, "us")
    yield from shares
