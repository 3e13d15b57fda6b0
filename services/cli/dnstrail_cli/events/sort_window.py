"""Sorts events by time, also those that arrive late."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from dnstrail.events import Event
from dnstrail.pipeline.view import Item

#: seconds for which `option:sort-events` waits for an earlier event -> an event that comes later is printed out of
#: order
WINDOW = 0.2  # so that an earlier event can overtake it


class SortWindow:
    """Holds each item back for WINDOW, and passes items on in the order of their stamps."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, float, Item]] = []
        self._number = count()

    def add(self, item: Item, now: float) -> None:
        """Take an event or a finding; `now` is monotonic, in seconds."""
        stamp = item.timestamp if isinstance(item, Event) else item["timestamp"]
        heapq.heappush(self._held, (stamp, next(self._number), now + WINDOW, item))

    def ready(self, now: float, *, everything: bool = False) -> Iterator[Item]:
        """Yield the items that were held back long enough."""
        while self._held and (everything or self._held[0][2] <= now):
            yield heapq.heappop(self._held)[3]
