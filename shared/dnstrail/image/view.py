"""The view: the relations that are live at one time (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from dnstrail.image.graph import Graph
from dnstrail.image.record import DOUBT, LATE, MAX_SIGHTINGS, Record, Sighting, Sum

NEVER: Final = -(1 << 62)  # less than every freshness


class Older(NamedTuple):
    """Answers of a record that are not held one by one: how many, the last stamp, and the number of the last one.

    Of a sum around the time of the view the samples count.
    """

    answers: int
    stamp: int
    number: int


class View:
    """The relations that are live at `t`; with `at`, only by the answers noted until then. Times are ns.

    With `host` only the answers count that this host saw, of those that are held one by one: a sum names no host.

    `aged` turns True when the view meets a relation that is live by its grace. `exact` turns False when it meets a sum
    of answers that cannot state what was live at `at`. `budget` is the number of relations that may still be read.

    A sum around `at` may lack the last answer until then. `rough` are the records with such a sum that the view met:
    the last sample counts in its place, or the greatest value that it can have for the records that are `raised`.
    """

    __slots__ = ("aged", "at", "budget", "exact", "graph", "host", "raised", "rough", "since", "sure", "t")

    def __init__(self, graph: Graph, t: int, grace: int, at: int | None, budget: int, host: str = "") -> None:
        self.graph = graph
        self.t = t
        self.since = t - grace
        self.at = at
        self.budget = budget
        self.host = host
        self.aged = False
        self.exact = True
        self.sure = True  # a sum without a gap had no gap at this grace
        self.rough: list[Record] | None = None
        self.raised: list[Record] | None = None

    def without_grace(self) -> View:
        """Return a view of the same time with grace 0."""
        strict = View(self.graph, self.t, 0, self.at, self.budget, self.host)
        strict.sure = self.since == self.t
        strict.raised = self.raised
        return strict

    def begin(self) -> None:
        """Forget what was met: another lookup begins."""
        self.exact, self.rough = True, None

    @property
    def certain(self) -> bool:
        """True if all answers were known that the view met."""
        return self.exact and self.rough is None

    def answers(self, record: Record) -> list[Sighting]:
        """Return the answers of a record that are held one by one, and were noted until `at`; the last arrival first.

        At `at` others may have been held in their place, which are in the sum now.
        """
        answers, at, total = record.sightings(), self.at, record.total
        if self.host:
            return [one for one in self._of_host(record) if at is None or one.noted <= at]
        if at is None:
            return answers
        answers = [one for one in answers if one.noted <= at]
        if total is not None and total.first_noted <= at and len(answers) < MAX_SIGHTINGS:
            self._note_rough(record)
        return answers

    def knows_youngest(self, record: Record) -> bool:
        """Return whether the last answer of a record is one of its `answers`."""
        return not self.host and (self.at is None or record.youngest.noted <= self.at)

    def older(self, record: Record) -> Older | None:
        """Return the sum of the older answers of a record until `at`, None if there are none."""
        total, at = record.total, self.at
        if self.host or total is None or (at is not None and total.first_noted > at):
            return None
        if at is None or total.noted <= at:
            return Older(total.count, total.stamp, total.number)
        known = total.samples_until(at)
        return Older(len(known), known[-1].stamp, known[-1].number)

    def live(self, record: Record, place: int) -> Sighting | Sum | None:
        """Return the last arrived answer by which a relation is live, None if it is not live."""
        if self.host:
            return next(self._live_by(record, place, self._of_host(record)), None)
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
        if self.host:
            stamp = max([one.stamp for one in self._live_by(record, place, self._of_host(record))], default=NEVER)
        elif record.latest == LATE:
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
        if record.youngest.stamp == stamp and not self.host:
            return record.youngest.number
        answers = self._live_by(record, place, self._of_host(record) if self.host else record.sightings())
        return max((one.number for one in answers if one.stamp == stamp), default=0)

    def is_live(self, record: Record) -> bool:
        """Return whether the record states a live relation."""
        if self.at is None and not self.host:
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
        found = False
        for sighting in sightings:
            if self.at is None or sighting.noted <= self.at:
                end = sighting.end(place)
                if end > self.since:
                    self.aged = self.aged or end <= self.t
                    found = True
                    yield sighting
        total, at = record.total, self.at
        if total is None or (at is not None and total.first_noted > at):
            return
        if self.host:
            self.exact = self.exact and (found or total.end(place) <= self.since)
            return
        if at is not None:
            last = self._live_by_samples(record, place, total, at)
            if last is not None:
                yield last
        elif (end := total.end(place)) > self.since:
            self.aged = self.aged or end <= self.t
            yield total

    def _live_by_samples(self, record: Record, place: int, total: Sum, at: int) -> Sighting | None:
        """Return the last answer of a sum until `at` by which a relation is live, as far as the samples state it."""
        known = total.samples_until(at)
        lasting = [one for one in known if one.stamp + one.life > self.since]
        last = lasting[-1] if lasting else known[0]
        number, stamp = last.number, last.stamp
        over = total.noted <= at
        end = total.end(place) if over else max([one.stamp + one.life for one in known])
        if total.gap or not total.whole or last is not known[-1] or not (over or end > self.t):
            # All relations are live by the same answer if the shortest life since the last sample is not over.
            alike = len(record.edges) == 1 or (last is known[-1] and last.stamp + total.life > self.since)
            if alike and (over or not total.gap):
                self._note_rough(record)
            else:
                self.exact = False
            if self.raised is not None and record in self.raised:
                number, stamp = total.most_until(at)
                end = total.end(place)
        if end <= self.since and (over or not self.sure):
            return None
        self.aged = self.aged or end <= self.t
        return Sighting(at, stamp, number, (), record.youngest.evidence)

    def _of_host(self, record: Record) -> list[Sighting]:
        """Return the held answers of a record that the host saw, the last arrival first."""
        return [one for one in record.sightings() if one.evidence.host == self.host]

    def _note_rough(self, record: Record) -> None:
        if self.rough is None:
            self.rough = [record]
        elif record not in self.rough:
            self.rough.append(record)
