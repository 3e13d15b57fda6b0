"""The time of each DNS event of a file, as the cache counts it: a late packet does not turn it back."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate


class StreamTimes:
    """The greatest time stamp so far of each start of a probe (ns)."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}

    def of(self, start: str, stamps: Iterable[int]) -> list[int]:
        """Return for each of the next stamps the greatest one until then."""
        times = list(accumulate(stamps, max, initial=self._latest.get(start, 0)))
        self._latest[start] = times[-1]
        return times[1:]

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._latest.pop(start, None)
