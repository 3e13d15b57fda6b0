"""The view: the relations that are live at one time (docs/lookups.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dnstrail.image.graph import Graph
from dnstrail.image.record import DOUBT, LATE, Record, Sighting, Sum

NEVER: Final = -(1 << 62)  # less than every freshness


class View:
    """The relations that are live at `t`; with `at`, only by the answers noted until then. Times are ns.

    `aged` turns True when the view meets a relation that is live by its grace. `exact` turns False when it meets a sum
    of answers that cannot state what was live at `at`. `budget` is the number of relations that may still be read.
    """

    __slots__ = ("aged", "at", "budget", "exact", "graph", "since", "t")

    def __init__(self, graph: Graph, t: int, grace: int, at: int | None, budget: int) -> None:
        self.graph = graph
        self.t = t
        self.since = t - grace
        self.at = at
        self.budget = budget
        self.aged = False
        self.exact = True

    def without_grace(self) -> View:
        """Return a view of the same time with grace 0."""
        return View(self.graph, self.t, 0, self.at, self.budget)

    def live(self, record: Record, place: int) -> Sighting | Sum | None:
        """Return the last arrived answer by which a relation is live, None if it is not live."""
        youngest = record.youngest
        if self.at is None or youngest.noted <= self.at:
            end = youngest.stamp + youngest.lives[place]
            if end > self.since:
                if end <= self.t:
                    self.aged = True
                return youngest
        if record.elder is None:
            return None
        return next(self._live_by(record, place, reversed(record.elder)), None)

    def freshness(self, record: Record, place: int) -> int:
        """Return the last stamp by which a relation is live, NEVER if none; a doubted one is less than all others."""
        youngest = record.youngest
        if record.latest == LATE:
            stamp = max([one.stamp for one in self._live_by(record, place, record.sightings())], default=NEVER)
        elif youngest.stamp + youngest.lives[place] > self.t and (self.at is None or youngest.noted <= self.at):
            return record.latest
        else:
            seen = self.live(record, place)
            stamp = NEVER if seen is None else seen.stamp
        return stamp - DOUBT if record.doubted and stamp != NEVER else stamp

    def number(self, record: Record, place: int, freshness: int) -> int:
        """Return the number of the last arrived answer that gave a relation this freshness."""
        stamp = freshness + DOUBT if record.doubted else freshness
        if record.youngest.stamp == stamp:
            return record.youngest.number
        answers = self._live_by(record, place, record.sightings())
        return max((one.number for one in answers if one.stamp == stamp), default=0)

    def is_live(self, record: Record) -> bool:
        """Return whether the record states a live relation."""
        if self.at is None:
            return record.ends > self.since
        for place in range(len(record.edges)):  # noqa: SIM110 - a generator costs more than the test
            if self.live(record, place) is not None:
                return True
        return False

    def is_live_at(self, record: Record, node: str) -> bool:
        """Return whether the record states a live relation that touches a node."""
        for place, edge in enumerate(record.edges):
            if node in (edge[0], edge[2]) and self.live(record, place) is not None:
                return True
        return False

    def _live_by(self, record: Record, place: int, sightings: Iterable[Sighting]) -> Iterator[Sighting | Sum]:
        """Yield the answers by which a relation is live: of these sightings, then the sum of the oldest ones."""
        for sighting in sightings:
            if self.at is None or sighting.noted <= self.at:
                end = sighting.end(place)
                if end > self.since:
                    self.aged = self.aged or end <= self.t
                    yield sighting
        total = record.total
        if total is None or (self.at is not None and total.first_noted > self.at):
            return
        if self.at is not None and total.noted > self.at and total.gap:
            self.exact = False
        end = total.end(place)
        if end > self.since:
            self.aged = self.aged or end <= self.t
            yield total
