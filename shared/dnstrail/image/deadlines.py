"""Things that come due at a time which may still move: a heap that looks again before it believes itself."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")
_SLACK = 1024


class Deadlines(Generic[T]):
    """A queue by due time; `due_at` tells an item's time as of now, or None once the item is gone."""

    def __init__(self, due_at: Callable[[T], float | None]) -> None:
        self._due_at = due_at
        self._heap: list[tuple[float, int, T]] = []
        self._ticket = count()
        self._compact_at = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, item: T) -> None:
        """Watch an item."""
        due = self._due_at(item)
        if due is not None:
            heappush(self._heap, (due, next(self._ticket), item))
            if len(self._heap) >= self._compact_at:
                self._compact()

    def pop(self, now: float) -> T | None:
        """Take out one item that is due at `now`, if there is one."""
        while self._heap and self._heap[0][0] <= now:
            _, _, item = heappop(self._heap)
            due = self._due_at(item)
            if due is None:
                continue
            if due <= now:
                return item
            heappush(self._heap, (due, next(self._ticket), item))
        return None

    def _compact(self) -> None:
        """Drop what is gone, lest items that went early (evicted) be held until their time."""
        alive = ((self._due_at(item), ticket, item) for _, ticket, item in self._heap)
        self._heap = [(due, ticket, item) for due, ticket, item in alive if due is not None]
        heapify(self._heap)
        self._compact_at = 2 * len(self._heap) + _SLACK
