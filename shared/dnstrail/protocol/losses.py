"""Losses: how a worker counts and reports them, and how the cache adds them up (docs/operations.md).

A source counts what the kernel or the probe lost, and each turn carries these counts by hop (`Turn.lost`). A
subscriber counts what the bus lost on the way to it (`TurnFollower.lost`). A `LossReporter` writes them to the worker's
log and sends them to the cache (operation `lost`). The cache keeps the reports as `WorkerLosses`; `dnstrail stats`
shows all of them by hop.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping

import structlog

EVERY = 10.0  # seconds between two reports, at least
MOST_WORKERS = 1024
MOST_EVENTS = (1 << 53) - 1  # the greatest count that the wire carries


def worker_name(kind: str) -> str:
    """Return a name for this run of a worker: its losses are summed up under it."""
    return f"{kind} {secrets.token_hex(8)}"


class LossReporter:
    """Reports the losses of one worker to its log and to the cache.

    It reports at most every ten seconds, and only when the counts have grown, so that a storm of losses costs one
    line. No loss stays unreported: a report that `send` does not accept (False) is repeated, and `close` reports the
    rest. Counts only grow; `now` is monotonic, in seconds.
    """

    def __init__(self, send: Callable[[Mapping[str, int]], bool] = lambda _: True) -> None:
        self._send = send
        self._reported = 0
        self._quiet_until = float("-inf")

    def note(self, losses: Mapping[str, int], now: float) -> None:
        """Report the losses since the start if they have grown and the last report is long enough ago."""
        if now >= self._quiet_until and sum(losses.values()) > self._reported:
            self._quiet_until = now + EVERY
            self._report(losses)

    def close(self, losses: Mapping[str, int]) -> None:
        """Report at the end of the worker what is still unreported."""
        if sum(losses.values()) > self._reported:
            self._report(losses)

    def _report(self, losses: Mapping[str, int]) -> None:
        structlog.get_logger().warning("events_lost", **losses)
        if self._send(losses):
            self._reported = sum(losses.values())


class WorkerLosses:
    """The losses that workers reported (`lost`), by event name: the latest report of each, as plain data.

    The table is bounded. The counts of an evicted worker stay in the sum. If such a worker reports again, its earlier
    counts are in the sum twice: beyond the bound the sum is an upper limit.
    """

    def __init__(self) -> None:
        self._workers: OrderedDict[str, Mapping[str, int]] = OrderedDict()  # the latest report last
        self._evicted: Counter[str] = Counter()

    def note(self, worker: str, lost: Mapping[str, int]) -> None:
        """Replace the report of a worker; `lost` counts from its start."""
        self._workers[worker] = lost
        self._workers.move_to_end(worker)
        if len(self._workers) > MOST_WORKERS:
            _, counts = self._workers.popitem(last=False)
            self._evicted = _sum(self._evicted, counts)

    @property
    def total(self) -> Counter[str]:
        """The sum over all workers."""
        return _sum(self._evicted, *self._workers.values())


def _sum(*counts: Mapping[str, int]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return Counter({name: min(count, MOST_EVENTS) for name, count in total.items() if count})
