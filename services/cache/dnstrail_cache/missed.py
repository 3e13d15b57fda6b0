"""What other workers told that they had missed on the bus: the last word of each, and the sum of those forgotten."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping

MOST_WORKERS = 64


class Missed:
    """The counts by event name of all workers together. Plain data; bounded in workers."""

    def __init__(self) -> None:
        self._workers: OrderedDict[str, Counter[str]] = OrderedDict()  # those that spoke last come last
        self._forgotten: Counter[str] = Counter()

    def note(self, worker: str, lost: Mapping[str, int]) -> None:
        """What a worker has missed so far, in all."""
        self._workers[worker] = Counter(lost)
        self._workers.move_to_end(worker)
        if len(self._workers) > MOST_WORKERS:
            _, counts = self._workers.popitem(last=False)
            self._forgotten += counts

    @property
    def together(self) -> Counter[str]:
        """What all have missed."""
        return sum(self._workers.values(), self._forgotten)
