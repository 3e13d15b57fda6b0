"""Outcomes and latency by resolver and by process over time, with what was lost meanwhile."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

from dnstrail.events import ANSWERED
from dnstrail.history.log.entries import LoggedQuestion
from dnstrail.history.log.selection import EVERYTHING

MINUTE: Final = 60  # seconds of a bucket
#: minutes whose outcomes a worker keeps -> earlier ones are read from the history
KEPT: Final = 360
#: resolvers, and processes, of a minute -> those with the fewest questions are added up as "(others)"
MOST_KEYS: Final = 32
OTHERS: Final = "(others)"
_UNKNOWN: Final = "(unknown)"
_SECOND: Final = 1_000_000_000
_STEPS: Final = tuple(0.001 * 2 ** (step / 2) for step in range(34))  # seconds; the last one is above a minute


class Outcomes:
    """The outcomes of some questions, and how long answers took."""

    __slots__ = ("counted", "questions", "slowest", "steps")

    def __init__(self) -> None:
        self.questions = 0
        self.counted: Counter[str] = Counter()
        self.steps = [0] * (len(_STEPS) + 1)  # answers by the first step that they did not exceed
        self.slowest = 0.0

    def add(self, outcome: str, waited: int | None) -> None:
        """Count a question; `waited` is in ns."""
        self.questions += 1
        self.counted[outcome] += 1
        if outcome == ANSWERED and waited is not None:
            seconds = waited / _SECOND
            self.steps[_step_of(seconds)] += 1
            self.slowest = max(self.slowest, seconds)

    def include(self, other: Outcomes) -> None:
        """Count the questions of another one."""
        self.questions += other.questions
        self.counted.update(other.counted)
        self.steps = [sum(counts) for counts in zip(self.steps, other.steps, strict=True)]
        self.slowest = max(self.slowest, other.slowest)

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

    def include(self, other: Minute) -> None:
        """Count the questions of another one."""
        for known, others in ((self.resolvers, other.resolvers), (self.processes, other.processes)):
            for name, outcomes in others.items():
                _of(known, name).include(outcomes)

    def include_lost(self, other: Minute) -> None:
        """Count the losses of another one."""
        if other.lost is not None:
            self.lost = (self.lost or 0) + other.lost

    def shown(self, start: int) -> dict[str, Any]:
        """Return the bucket as a map."""
        return {
            "start": start,
            "lost": self.lost,
            "resolvers": {name: one.shown() for name, one in self.resolvers.items()},
            "processes": {name: one.shown() for name, one in self.processes.items()},
        }


class Health:
    """The last minutes. Threads may use it at the same time.

    `begin` is the time from which the buckets have all questions, as far as this worker received them. It never goes
    back: a question of an earlier time makes a bucket that lacks others.
    """

    def __init__(self, seconds: int = MINUTE, most: int = KEPT, *, since: float | None = None) -> None:
        """Begin with no questions. `since` is the wall time from which all are added; None: some are left out."""
        self.seconds = seconds
        self.begin = float("inf") if since is None else self._next(since)
        self._most = most
        self._buckets: OrderedDict[int, Minute] = OrderedDict()
        self._lock = threading.Lock()
        self._counted: int | None = None  # events that were lost up to the last count
        self._now = float("inf") if since is None else since  # the wall time of the last count

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
        """Note how many events were lost since the begin of the cache; None if it does not answer.

        What was lost meanwhile belongs to the minute of the next count. A smaller total is that of a new cache.
        """
        with self._lock:
            if now > self._now + MINUTE:  # a clock that was behind is set right: what came before has earlier times
                self.begin = max(self.begin, self._next(now))
            self._now = now
            bucket = self._of(int(now))
            if total is None:
                return
            before = total if self._counted is None else self._counted
            if bucket is not None:
                bucket.lost = (bucket.lost or 0) + (total - before if total >= before else total)
            self._counted = total

    def shown(self, since: float, until: float) -> list[dict[str, Any]]:
        """Return the buckets of a time that have anything to show."""
        with self._lock:
            chosen = [(start, one) for start, one in sorted(self._buckets.items()) if since < start + self.seconds]
            return [one.shown(start) for start, one in chosen if start <= until and (one.resolvers or one.lost)]

    def include(self, other: Health, since: float, until: float, begin: float = 0.0) -> None:
        """Count the losses that another one has in a time, and its questions from `begin` on.

        Its buckets are no longer than those of this one.
        """
        with other._lock:
            for start, one in other._buckets.items():
                if since < start + other.seconds and start <= until and (bucket := self._of(start)) is not None:
                    bucket.include_lost(one)
                    if start >= begin:
                        bucket.include(one)

    def _next(self, time: float) -> float:
        """Return the begin of the first bucket after a time."""
        return (time // self.seconds + 1) * self.seconds

    def _of(self, second: int) -> Minute | None:
        """Return the bucket of a time, None for one that is forgotten."""
        start = second // self.seconds * self.seconds
        if (found := self._buckets.get(start)) is not None:
            return found
        if len(self._buckets) >= self._most:
            for ahead in [one for one in self._buckets if one > self._now + MINUTE]:
                del self._buckets[ahead]
        if len(self._buckets) >= self._most:
            oldest = min(self._buckets)
            if start < oldest:
                return None
            del self._buckets[oldest]
            self.begin = max(self.begin, oldest + self.seconds)
        found = self._buckets[start] = Minute()
        return found


def _of(known: dict[str, Outcomes], name: str) -> Outcomes:
    """Return the outcomes of a name; of too many names, the one with the fewest questions joins the others."""
    if (found := known.get(name)) is None:
        found = known[name] = Outcomes()
        if len(known) > MOST_KEYS + (OTHERS in known):
            least = min((one for one in known if one not in {name, OTHERS}), key=lambda one: known[one].questions)
            known.setdefault(OTHERS, Outcomes()).include(known.pop(least))
    return found


def _step_of(seconds: float) -> int:
    return bisect_left(_STEPS, seconds)
