"""The wheel: records by the second of their next deadline (docs/image.md)."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import Final

from dnstrail.image.bounds import SECOND
from dnstrail.image.record import NOWHERE, Record

_FINE: Final = 600  # seconds ahead for which each second has a bucket
_COARSE: Final = 64  # seconds of a bucket beyond that: it is reached early, and its records are put back
_SEARCHED: Final = 64  # records of the present second among which one is sought that is due


class Wheel:
    """Buckets of records. A record is in one bucket at most, and its bucket is never later than its deadline."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Record]] = {}
        self._seconds: list[int] = []  # a heap of the keys

    def put(self, record: Record, due: int, now: int) -> None:
        """Put a record into the bucket of a deadline (ns), out of a later one if it is there."""
        record.due = due
        second = due // SECOND
        if second - now // SECOND > _FINE:
            second -= second % _COARSE
        if record.second != NOWHERE:
            if record.second <= second:
                return  # it is reached earlier, and put back then
            self.discard(record)
        record.second = second
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = set()
            heappush(self._seconds, second)
        bucket.add(record)

    def discard(self, record: Record) -> None:
        """Take a record out of its bucket."""
        if record.second != NOWHERE:
            bucket = self._buckets[record.second]
            bucket.discard(record)
            if not bucket:
                bucket.clear()  # an emptied set keeps its table
            record.second = NOWHERE

    def take(self, now: int) -> Record | None:
        """Take out a record whose bucket is over at `now`, or whose deadline is reached; None without any."""
        while self._seconds and self._seconds[0] * SECOND <= now:
            bucket = self._buckets[self._seconds[0]]
            if not bucket:
                del self._buckets[heappop(self._seconds)]
                continue
            record: Record | None
            if (self._seconds[0] + 1) * SECOND <= now:
                record = bucket.pop()
            else:
                record = next((one for one in islice(bucket, _SEARCHED) if one.due <= now), None)
                if record is None:
                    return None
                bucket.remove(record)
            record.second = NOWHERE
            return record
        return None
