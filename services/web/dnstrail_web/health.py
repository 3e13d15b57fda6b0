"""Outcomes and latency by resolver and by process over time, with what was lost meanwhile."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from dnstrail.events import ANSWERED
from dnstrail.history.log.entries import LoggedQuestion
from dnstrail.history.log.history_log import HistoryLog
from dnstrail.history.log.selection import EVERYTHING, LogSelection

MINUTE: Final = 60  # seconds of a bucket
#: minutes whose outcomes a worker keeps -> earlier ones are read from the history
KEPT: Final = 360
#: resolvers, and processes, of a minute -> further ones are added up as "(others)"
MOST_KEYS: Final = 32
#: entries of the history that one request for health reads -> the reply has `complete: false`
MOST_ENTRIES: Final = 500_000
OTHERS: Final = "(others)"
_UNKNOWN: Final = "(unknown)"
_SECOND: Final = 1_000_000_000
_STEPS: Final = tuple(0.001 * 2 ** (step / 2) for step in range(34))  # seconds; the last one is above a minute


class Outcomes:
    """The outcomes of some questions, and how long answers took."""

    __slots__ = ("counted", "slowest", "steps")

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.steps = [0] * (len(_STEPS) + 1)  # answers by the first step that they did not exceed
        self.slowest = 0.0

    def add(self, outcome: str, waited: int | None) -> None:
        """Count a question; `waited` is in ns."""
        self.counted[outcome] += 1
        if outcome == ANSWERED and waited is not None:
            seconds = waited / _SECOND
            self.steps[_step_of(seconds)] += 1
            self.slowest = max(self.slowest, seconds)

    def shown(self) -> dict[str, Any]:
        """Return the counts as a map; latencies are in seconds."""
        return {
            "outcomes": dict(self.counted),
            "median": self._at(0.5),
            "p95": self._at(0.95),
            "slowest": self.slowest if any(self.steps) else None,
        }

    def _at(self, share: float) -> float | None:
        total = sum(self.steps)
        if not total:
            return None
        step = next(place for place, count in enumerate(accumulate(self.steps)) if count >= share * total)
        return min((*_STEPS, self.slowest)[step], self.slowest)


class Minute:
    """A minute: its questions, and the events that were lost in it; None if nobody counted them."""

    __slots__ = ("lost", "processes", "resolvers")

    def __init__(self) -> None:
        self.lost: int | None = None
        self.resolvers: dict[str, Outcomes] = {}
        self.processes: dict[str, Outcomes] = {}

    def shown(self, start: int) -> dict[str, Any]:
        """Return the bucket as a map."""
        return {
            "start": start,
            "lost": self.lost,
            "resolvers": {name: one.shown() for name, one in self.resolvers.items()},
            "processes": {name: one.shown() for name, one in self.processes.items()},
        }


class Health:
    """The last minutes. Threads may use it at the same time."""

    def __init__(self, seconds: int = MINUTE, most: int = KEPT) -> None:
        self.seconds = seconds
        self._most = most
        self._buckets: OrderedDict[int, Minute] = OrderedDict()
        self._lock = threading.Lock()
        self._counted: int | None = None  # events that were lost up to the last count

    def add(self, entries: Iterable[LoggedQuestion]) -> None:
        """Count questions of clients: one that a forwarder asked for a known client is that of the client."""
        accepts = EVERYTHING.accepts_question
        with self._lock:
            for entry in entries:
                if accepts(entry) and (bucket := self._of(entry.timestamp // _SECOND)) is not None:
                    resolver = entry.resolver or entry.dst or _UNKNOWN
                    _of(bucket.resolvers, resolver).add(entry.outcome, entry.waited)
                    _of(bucket.processes, entry.process_name or entry.src or _UNKNOWN).add(entry.outcome, entry.waited)

    def count_lost(self, total: int | None, now: float) -> None:
        """Note how many events were lost since the begin of the cache; None if it does not answer."""
        with self._lock:
            bucket = self._of(int(now))
            if total is not None and bucket is not None:
                more = total - self._counted if self._counted is not None else 0
                bucket.lost = (bucket.lost or 0) + max(more, 0)
            self._counted = total

    def shown(self, since: float, until: float) -> list[dict[str, Any]]:
        """Return the buckets of a time that have anything to show."""
        with self._lock:
            chosen = [(start, one) for start, one in sorted(self._buckets.items()) if since < start + self.seconds]
            return [one.shown(start) for start, one in chosen if start <= until and (one.resolvers or one.lost)]

    def lost_between(self, since: int, until: int) -> int | None:
        """Return the events that were lost in a time; None if nobody counted them in all of it."""
        with self._lock:
            found = [self._buckets.get(start) for start in range(since // MINUTE * MINUTE, until, MINUTE)]
        counts = [None if one is None else one.lost for one in found]
        return None if None in counts else sum(one or 0 for one in counts)

    @property
    def begin(self) -> float:
        """The time from which the buckets have all questions, as far as this worker received them."""
        with self._lock:
            return min(self._buckets, default=float("inf"))

    def _of(self, second: int) -> Minute | None:
        """Return the bucket of a time, None for one that is forgotten."""
        start = second // self.seconds * self.seconds
        if (found := self._buckets.get(start)) is not None:
            return found
        if len(self._buckets) >= self._most:
            oldest = min(self._buckets)
            if start < oldest:
                return None
            del self._buckets[oldest]
        found = self._buckets[start] = Minute()
        return found


def past_health(folder: Path, since: float, until: float, warn: Callable[[str], None]) -> tuple[Health, bool]:
    """Return the health of a past time from the history, and whether all of it was read.

    Raises:
        OSError, SettingsError, sqlite3.Error: as for `HistoryLog.read`.
    """
    minutes = max(int((until - since) // MINUTE // KEPT) + 1, 1)
    found = Health(minutes * MINUTE, KEPT + 2)
    selection = LogSelection(since=round(since * _SECOND), until=round(until * _SECOND))
    for count, entry in enumerate(HistoryLog(folder, warn).read(selection)):
        if count == MOST_ENTRIES:
            return found, False
        if isinstance(entry, LoggedQuestion):
            found.add([entry])
    return found, True


def _of(known: dict[str, Outcomes], name: str) -> Outcomes:
    if name not in known and len(known) >= MOST_KEYS:
        name = OTHERS
    return known.setdefault(name, Outcomes())


def _step_of(seconds: float) -> int:
    return bisect_left(_STEPS, seconds)
