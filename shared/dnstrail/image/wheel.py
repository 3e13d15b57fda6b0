"""The wheel: records by the second of their next deadline (docs/inside/image.md)."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import Final

from dnstrail.image.bounds import SECOND
from dnstrail.image.record import Bucket, Record

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

    def take(self, now: int) -> Record | None:
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
