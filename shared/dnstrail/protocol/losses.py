"""Losses: how a worker counts and reports them, and how the cache adds them up (docs/use/operate.md).

A source counts what the kernel or the probe lost, and each turn carries these counts by hop (`Turn.lost`). A
subscriber counts what the bus lost on the way to it (`TurnFollower.lost`). A `LossReporter` writes them to the worker's
log and sends them to the cache (operation `lost`). The cache keeps the reports as `WorkerLosses`; `dnstrail stats`
shows all of them by hop.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping

import structlog

from dnstrail.log_pause import LogPause

MOST_WORKERS = 1024  #: workers that report losses -> the oldest report of the user with the most is added to a total
#: workers of one user, or of one key, that report losses -> its oldest report is added to a total
MOST_WORKERS_OF_USER = 64
MOST_USERS = 1024  # users and keys; beyond it the reports of the one that reported longest ago are added to a total
MOST_EVENTS = (1 << 53) - 1  # the greatest count that the wire carries

Reporter = int | str | None  # the user of a connection, or the name of its key


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
        self._pause = LogPause()

    def note(self, losses: Mapping[str, int], now: float) -> None:
        """Report the losses since the start if they have grown and the last report is long enough ago."""
        if sum(losses.values()) > self._reported and self._pause.note(now):
            self._report(losses)

    def close(self, losses: Mapping[str, int]) -> None:
        """Report at the end of the worker what is still unreported."""
        if sum(losses.values()) > self._reported:
            self._report(losses)

    def _report(self, losses: Mapping[str, int]) -> None:
        structlog.get_logger().warning("events_lost", **losses)
        if self._send(losses):
            self._reported = sum(losses.values())


class _Reports:
    """The latest reports of the workers of one user, by the name of the worker; `evicted` is the sum of the others."""

    __slots__ = ("evicted", "workers")

    def __init__(self) -> None:
        self.workers: OrderedDict[str, Mapping[str, int]] = OrderedDict()  # the latest report last
        self.evicted: Counter[str] = Counter()

    def evict(self) -> None:
        """Move the eldest report to the sum."""
        _, lost = self.workers.popitem(last=False)
        self.evicted.update(lost)


class WorkerLosses:
    """The losses that workers reported (`lost`), by user, worker and event name: the latest report of each.

    A worker cannot have missed more than was published (`most`, by event name), and a user counts as
    MOST_WORKERS_OF_USER workers at most, however many names it uses. More than that is left out where the losses are
    read, since a report can be ahead of the turn that it counts.

    The table is bounded. The counts of an evicted worker stay in the sum. If such a worker reports again, its earlier
    counts are in the sum twice: beyond the bound the sum is an upper limit.
    """

    def __init__(self) -> None:
        self._users: OrderedDict[Reporter, _Reports] = OrderedDict()  # the user of the latest report last
        self._evicted: Counter[str] = Counter()
        self._count = 0

    def note(self, user: Reporter, worker: str, lost: Mapping[str, int]) -> None:
        """Replace the report of a worker; `lost` counts from its start."""
        reports = self._users.setdefault(user, _Reports())
        self._users.move_to_end(user)
        self._count += worker not in reports.workers
        reports.workers[worker] = lost
        reports.workers.move_to_end(worker)
        if len(reports.workers) > MOST_WORKERS_OF_USER:
            self._evict_from(reports)
        elif self._count > MOST_WORKERS:
            self._evict_from(max(self._users.values(), key=lambda one: len(one.workers)))
        if len(self._users) > MOST_USERS:
            self._evict_user()

    def counted(self, most: Mapping[str, int]) -> tuple[Counter[str], int]:
        """Return the sum over all workers, and the number of reported counts beyond what was published."""
        total = dict.fromkeys(most, 0)
        beyond = 0
        for lost, workers in self._reports():
            for name, count in lost.items():
                limit = most.get(name, 0) * workers
                beyond += count > limit
                total[name] = total.get(name, 0) + min(count, limit)
        return Counter({name: min(count, MOST_EVENTS) for name, count in total.items() if count}), beyond

    def _reports(self) -> Iterator[tuple[Mapping[str, int], int]]:
        """Yield each report, and the number of workers as whose it counts."""
        yield self._evicted, MOST_WORKERS_OF_USER
        for reports in self._users.values():
            yield reports.evicted, MOST_WORKERS_OF_USER
            yield from ((lost, 1) for lost in reports.workers.values())

    def _evict_from(self, reports: _Reports) -> None:
        reports.evict()
        self._count -= 1

    def _evict_user(self) -> None:
        _, reports = self._users.popitem(last=False)
        while reports.workers:
            self._evict_from(reports)
        self._evicted.update(reports.evicted)
