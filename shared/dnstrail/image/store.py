"""The answers that the image holds, within its bounds (docs/inside/image.md, docs/reference/bounds.md)."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import Final

from dnstrail.image.answer import Answer, ShareKey
from dnstrail.image.bounds import SECOND, Bounds, Counts
from dnstrail.image.graph import Graph
from dnstrail.image.places import Places
from dnstrail.image.record import Bucket, Record, Root, Sighting, new_record

_FINE: Final = 600  # seconds ahead for which each second has a bucket
_COARSE: Final = 64  # seconds of a bucket beyond that. It is reached early, and its records are put back
_NEVER: Final = 1 << 62  # later than every deadline
_SEARCHED: Final = 64  # records of the present second that are searched for one that is due


class Wheel:
    """Buckets of records by second. The deadline of a record is the end of its relations plus `lag` (ns).

    A record is in one bucket of all wheels at most, which is never later than its deadline. In the second of its
    deadline that is a bucket of the wheel of this deadline. `next` is the time of the first bucket (ns).
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._buckets: dict[int, Bucket] = {}
        self._seconds: list[int] = []  # a heap of the keys
        self.next = _NEVER

    def put(self, record: Record, now: int) -> None:
        """Put a record into the bucket of its deadline, unless it is in an earlier bucket."""
        second = (record.ends + self._lag) // SECOND
        if second - now // SECOND > _FINE:
            second -= second % _COARSE
        earlier, bucket = record.bucket, self._buckets.get(second)
        if earlier is not None and (earlier.second < second or earlier is bucket):
            return  # the record is put back when this bucket is reached
        if bucket is None:
            bucket = self._buckets[second] = Bucket(second)
            heappush(self._seconds, second)
            self.next = self._seconds[0] * SECOND
        bucket.append(record)
        record.bucket = bucket

    def pop_due(self, now: int) -> Record | None:
        """Take out a record whose second is over at `now`, or whose deadline is reached; None if there is none."""
        while self.next <= now:
            bucket = self._buckets[self._seconds[0]]
            if bucket.oldest() is None:
                del self._buckets[heappop(self._seconds)]
                bucket.close()
                self.next = self._seconds[0] * SECOND if self._seconds else _NEVER
                continue
            ended = now - self._lag
            over = (self._seconds[0] + 1) * SECOND <= now
            due = (one for one in islice(bucket, _SEARCHED) if over or one.ends <= ended)
            record = next(due, None)
            if record is not None:
                record.leave_bucket()
            return record
        return None


_STEPS: Final = 4  # deadlines that one answer handles; the others wait for a sweep
_SEARCH: Final = 64  # deadlines that an eviction handles, to find roots that have ended


class Store:
    """Roots, records and their indexes; every record belongs to a root that holds a place.

    `forgotten` is the latest end of anything that was removed or evicted; None if nothing was. `counters` counts
    evictions. `answers` is the number of answers so far, which numbers them in the order of their arrival.
    """

    def __init__(self, bounds: Bounds, counters: Counts) -> None:
        self.counters = counters
        self.graph = Graph()
        self.places = Places(bounds.size, bounds.most_relations)
        self.answers = 0
        self.forgotten: int | None = None
        self._size = bounds.size
        self._relations = bounds.most_relations
        self._owned = bounds.owned
        self._grace = bounds.grace_ns
        self._history = bounds.history_ns
        self._ending = Wheel(self._grace)
        self._leaving = Wheel(self._grace + self._history)

    def apply(
        self, answer: Answer, sighting: Sighting, share: ShareKey, now: int, *, doubted: bool, live: bool
    ) -> None:
        """Add an admitted answer of a party. Then evict roots and records beyond the bounds.

        A doubted answer matches no query, and counts because events of its party were lost.
        """
        self.answers = sighting.number
        places = self.places
        root = places.find_or_add(answer.question, share)
        record = root.find(answer.edges, doubted=doubted)
        if record is not None and live and record.ends + self._grace + self._history <= now:
            self._remove(record)  # a sweep would have removed it
            root, record = places.find_or_add(answer.question, share), None
        if record is None:
            record = new_record(root, answer.edges, sighting, doubted=doubted)
            root.add(record)
            places.add_relations(root, len(record.edges))
        else:
            _align(sighting, answer, record)
            record.add(sighting, self._grace)
        self.graph.add(record)
        root.ended = root.ended and record.ends + self._grace <= now
        places.use(root)
        self._ending.put(record, now)
        if root.relations > self._owned:
            self._thin_out(root)
        if places.held > self._size or places.relations > self._relations:
            self._make_room(root, now, live=live)
        self.sweep(now, _STEPS, live=live)

    def sweep(self, now: int, steps: int, *, live: bool) -> None:
        """Handle at most `steps` deadlines: roots end, and records of a live source are removed after the history."""
        for _ in range(steps):
            if self._ending.next > now and self._leaving.next > now:
                return
            record = self._ending.pop_due(now) or self._leaving.pop_due(now)
            if record is None:
                return
            self._reach(record, now, live=live)

    def forget(self, end: int) -> None:
        """Note that something was removed that was live until `end`."""
        self.forgotten = end if self.forgotten is None else max(self.forgotten, end)

    def _reach(self, record: Record, now: int, *, live: bool) -> None:
        """Handle the deadline of a record. Put the record back if a later answer moved the deadline."""
        ended = record.ends + self._grace
        if ended > now:
            self._ending.put(record, now)
            return
        root = record.root
        if not root.ended and root.last_end(now - self._grace) + self._grace <= now:
            self.places.end(root)
        if not live:
            return  # time removes nothing from the image of a file
        if ended + self._history > now:
            self._leaving.put(record, now)
        else:
            self._remove(record)

    def _thin_out(self, root: Root) -> None:
        """Evict the oldest records of a root beyond its bound on relations; the last answered record stays."""
        for record in root.records()[:-1]:
            if root.relations <= self._owned:
                return
            self.counters["evicted_owned"] += len(record.edges)
            self._remove(record)

    def _make_room(self, answered: Root, now: int, *, live: bool) -> None:
        """Evict roots beyond the bounds on roots and on relations; the root that was answered just now goes last."""
        places = self.places
        while places.held > self._size:
            self._evict(answered, "evicted_roots", now, live=live)
        while places.relations > self._relations and places.held > 1:
            self._evict(answered, "evicted_relations", now, live=live)

    def _evict(self, answered: Root, counter: str, now: int, *, live: bool) -> None:
        """Evict one root, unless the search for ended roots has already removed one."""
        held = self.places.held
        self.sweep(now, _SEARCH, live=live)
        if self.places.held < held:
            return
        root = self.places.next(answered)
        self.counters[counter] += 1
        for record in root.records():
            self._remove(record)

    def _remove(self, record: Record) -> None:
        """Remove a record; a root without records gives up its place."""
        self.forget(record.ends + self._grace)
        root = record.root
        self.graph.remove(record)
        record.leave_bucket()
        self.places.add_relations(root, -len(record.edges))
        root.remove(record)
        if root.latest is None:
            self.places.remove(root)
        record.clear()


def _align(sighting: Sighting, answer: Answer, record: Record) -> None:
    """Put the lives of a repeated answer along the edges of its record, and share the evidence of the answer before."""
    if len(answer.edges) > 1 and answer.edges != record.edges:
        life = dict(zip(answer.edges, answer.lives, strict=True))
        sighting.lives = tuple(life[edge] for edge in record.edges)
    if sighting.evidence == record.youngest.evidence:
        sighting.evidence = record.youngest.evidence
