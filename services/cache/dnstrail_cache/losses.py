"""What was lost between the kernel and the image, hop by hop, and in all (DESIGN 3)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from dnstrail.protocol.batches import TURN, Turn

MOST_WORKERS = 1024
MOST_EVENTS = (1 << 53) - 1  # as much as a count on the wire may be
_HOPS = ("kernel", "probe", "bus", "decoder", "workers")
_UNREADABLE = ("bad_message",)  # counters of the image: messages that were no DNS


def losses(
    probes: Iterable[Turn], on_the_way: Mapping[str, int], image: Mapping[str, int], workers: Mapping[str, int]
) -> dict[str, Any]:
    """Counts by hop: the kernel and the probe as the probes tell, the bus as this cache noticed, the decoder.

    `workers`: the bus as other workers noticed, each on its own way.

    They are events, but for what dnstap resolvers wrote and was not taken, which is counted in connections, and for
    the ends of turns (`turn`), which are not in the `total`.
    """
    hops: dict[str, Counter[str]] = {hop: Counter() for hop in _HOPS}
    for probe in probes:
        for hop, reasons in probe.lost.items():
            hops.setdefault(hop, Counter()).update(reasons)
    hops["bus"] += Counter(on_the_way)
    hops["decoder"] += Counter({reason: image.get(reason, 0) for reason in _UNREADABLE})
    hops["workers"] += Counter(workers)
    total = sum(counts.total() for counts in hops.values()) - hops["bus"][TURN] - hops["workers"][TURN]
    return {**{hop: dict(counts) for hop, counts in hops.items()}, "total": total}


class WorkerLosses:
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
