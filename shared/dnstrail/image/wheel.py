"""The wheel: records by the second of their next deadline (docs/image.md)."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import Final

from dnstrail.image.bounds import SECOND
from dnstrail.image.record import NOWHERE, Record

_FINE: Final = 600  # seconds ahead for which each second has a bucket
_COARSE: Final = 64  # seconds of a bucket beyond that. It is reached early, and its records are put back
_SEARCHED: Final = 64  # records of the present second that are searched for one that is due


class Wheel:
    """Buckets of records by second. A record is in one bucket at most, which is never later than its deadline."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Record]] = {}
        self._seconds: list[int] = []  # a heap of the keys

    def put(self, record: Record, due: int, now: int) -> None:
        """Put a record into the bucket of a deadline (ns), unless it is in an earlier bucket."""
        record.due = due
        second = due // SECOND
        if second - now // SECOND > _FINE:
            second -= second % _COARSE
        if record.second != NOWHERE:
            if record.second <= second:
                return  # the record is put back when this bucket is reached
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
        """Take out a record whose second is over at `now`, or whose deadline is reached; None if there is none."""
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
