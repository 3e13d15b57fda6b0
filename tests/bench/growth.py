"""The cost of a fresh name and of a lookup as the image grows from a thousand to a million roots."""

from __future__ import annotations

import time
from collections.abc import Iterator

from figures import Figure
from live_events import fresh_messages

from dnstrail.image import Bounds, Image

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_LOOKUPS = 2_000
_SINCE = 1_700_000_000 * 10**9


def measure(_capture: str) -> Iterator[Figure]:
    """Measure an image at each size."""
    first: tuple[float, float] | None = None
    for size in SIZES:
        costs = _costs(size)
        first = first or costs
        for title, cost, least in zip(("a fresh name", "get by name"), costs, first, strict=True):
            yield Figure(f"{title}, {size:,} roots", cost, "us")
            yield Figure(f"{title}, {size:,} roots, against {SIZES[0]:,}", cost / least, "times")


def _costs(size: int) -> tuple[float, float]:
    """Return the CPU time of a fresh name and of a lookup, in microseconds."""
    image, fed = Image(Bounds(size=size)), 0
    for number, (_, message) in enumerate(fresh_messages(size)):
        began = time.thread_time_ns()
        image.feed(_SINCE + number, message)
        fed += time.thread_time_ns() - began
    keys = [f"a{number:07}.example.com" for number in range(0, size, max(size // _LOOKUPS, 1))]
    began = time.thread_time_ns()
    for key in keys:
        image.get(key)
    return fed / size / 1000, (time.thread_time_ns() - began) / len(keys) / 1000
