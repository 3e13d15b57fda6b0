"""The memory of a query root: a name that is an alias of a second one, which has one address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from baselines import GO_HEAP
from figures import Figure
from live_events import fresh_messages

from dnstrail.image import Bounds, Image

SIZES = (5_000, 100_000)
_SPACING = 100_000
_SINCE = 1_700_000_000 * 10**9


def measure(_capture: str) -> Iterator[Figure]:
    """Measure the memory of the process as images of several sizes are filled."""
    yield from of_roots(SIZES)


def of_roots(sizes: tuple[int, ...]) -> Iterator[Figure]:
    """Yield the memory of a root at each size."""
    images = []
    for size in sizes:
        image, before = Image(Bounds(size=size)), _resident()
        images.append(image)  # memory of an image that is freed would serve the next
        for number, (_, message) in enumerate(fresh_messages(size)):
            image.feed(_SINCE + number * _SPACING, message)
        used = (_resident() - before) / size
        yield Figure(f"a root of {size:,}", used, "bytes")
        yield Figure(f"a root of {size:,}, of Go's heap", used / GO_HEAP[size])


def _resident() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
