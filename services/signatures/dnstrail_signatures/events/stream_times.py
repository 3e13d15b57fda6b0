"""The time of each DNS event of a file, as the cache counts it: a late packet does not turn it back."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from dnstrail.protocol.members import MAX_STARTS


class StreamTimes:
    """The greatest time stamp so far of each start of a probe (ns); at most MAX_STARTS starts are remembered."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}

    def of(self, start: str, stamps: Iterable[int]) -> list[int]:
        """Return for each of the next stamps the greatest one until then."""
        times = list(accumulate(stamps, max, initial=self._latest.pop(start, 0)))
        self._latest[start] = times[-1]
        if len(self._latest) > MAX_STARTS:
            del self._latest[next(iter(self._latest))]
        return times[1:]
