"""What other workers told that they had missed on the bus: the last word of each, and the sum of those forgotten."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping

MOST_WORKERS = 1024
MOST_EVENTS = (1 << 53) - 1  # as much as a count on the wire may be


class Missed:
    """The counts by event name of all workers together. Plain data; bounded in workers, and in what they say.

    A worker that was forgotten and speaks again is counted twice: past the bound the sum is the most that it can be.
    """

    def __init__(self) -> None:
        self._workers: OrderedDict[str, Mapping[str, int]] = OrderedDict()  # those that spoke last come last
        self._forgotten: Counter[str] = Counter()

    def note(self, worker: str, lost: Mapping[str, int]) -> None:
        """What a worker has missed so far, in all."""
        self._workers[worker] = lost
        self._workers.move_to_end(worker)
        if len(self._workers) > MOST_WORKERS:
            _, counts = self._workers.popitem(last=False)
            self._forgotten = _sum(self._forgotten, counts)

    @property
    def together(self) -> Counter[str]:
        """What all have missed."""
        return _sum(self._forgotten, *self._workers.values())


def _sum(*counts: Mapping[str, int]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return Counter({name: min(count, MOST_EVENTS) for name, count in total.items() if count})
