"""The losses that other workers report, and the events that the probes published: nobody can have missed more."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping

from dnstrail.events import DNS_ANSWER_CONFLICT, FACT_NAMES, LOSS_REASONS, NET_PACKET_DNS, PUBLISHED
from dnstrail.protocol.batches import TURN, Turn

MOST_WORKERS = 1024  #: workers that report losses -> the oldest report of the user with the most is added to a total
#: workers of one user, or of one key, that report losses -> its oldest report is added to a total
MOST_WORKERS_OF_USER = 64
MOST_USERS = 1024  # beyond it the reports of the one that reported longest ago are added to a total
MOST_EVENTS = (1 << 53) - 1  # the greatest count that the wire carries
Reporter = int | str | None  # the user of a connection, or the name of its key
#: losses of one reason (`signature_errors`, `findings_lost`, ...) that a worker reports for each published event, and
#: before the first one -> further ones do not count: `losses_beyond_published`
_LOSSES_OF_EVENT = 1024  # each signature can fail at each event; as many are believed before the first


class Published:
    """The number of published events by name, and of turns, of all starts since each began."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, turn: Turn, earlier: Turn | None) -> None:
        """Count what a start published since an earlier turn; None is its begin."""
        self._counts[TURN] += max(turn.turn - earlier.turn, 0) if earlier else turn.turn + 1
        before = _events(earlier) if earlier else {}
        for name, count in _events(turn).items():
            if name in PUBLISHED:
                self._counts[name] += max(count - before.get(name, 0), 0)

    @property
    def most_missed(self) -> dict[str, int]:
        """The greatest number of events that one worker can have missed, by event name or reason."""
        events = sum(self._counts[name] for name in PUBLISHED)
        most = {name: self._counts[name] for name in (*PUBLISHED, TURN)}
        for name in (DNS_ANSWER_CONFLICT, *FACT_NAMES):  # the cache publishes them: a message leads to one at most
            most[name] = self._counts[NET_PACKET_DNS]
        return {**most, **dict.fromkeys(LOSS_REASONS, (events + 1) * _LOSSES_OF_EVENT)}


def _events(turn: Turn) -> Mapping[str, int]:
    """Return the number of events by name; without it that of batches, which a subscriber counts then."""
    if turn.published is not None:
        return turn.published
    return {name: last + 1 for name, last in turn.last.items()}


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
