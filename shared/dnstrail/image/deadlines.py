"""A queue of deadlines that may still move: a heap that checks each deadline again before it returns its item."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")
Due = tuple[float, ...]  # a time, then tie-breakers
_SLACK = 1024


class Deadlines(Generic[T]):
    """A queue by due time.

    `due_of` returns the present due time of an item, or None once the item is gone. A due time may only grow: the heap
    then holds a time that is too early, which `pop` corrects. Gone items stay in the heap until `pop` meets them, or
    until the heap has grown by half and `_compact` drops them.
    """

    def __init__(self, due_of: Callable[[T], Due | None]) -> None:
        self._due_of = due_of
        self._heap: list[tuple[Due, int, T]] = []
        self._ticket = count()
        self._compact_at = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T) -> None:
        """Add an item."""
        due = self._due_of(item)
        if due is not None:
            heappush(self._heap, (due, next(self._ticket), item))
            if len(self._heap) >= self._compact_at:
                self._compact()

    def pop(self, now: float = float("inf")) -> T | None:
        """Remove and return the item that is due first, if it is due at `now`."""
        while self._heap and self._heap[0][0][0] <= now:
            seen, ticket, item = heappop(self._heap)
            due = self._due_of(item)
            if due is None:
                continue
            if due == seen:
                return item
            heappush(self._heap, (due, ticket, item))
        return None

    def _compact(self) -> None:
        """Drop the items that are gone: evicted items would otherwise stay here until their old due time."""
        alive = ((self._due_of(item), ticket, item) for _, ticket, item in self._heap)
        self._heap = [(due, ticket, item) for due, ticket, item in alive if due is not None]
        heapify(self._heap)
        self._compact_at = len(self._heap) + len(self._heap) // 2 + _SLACK
