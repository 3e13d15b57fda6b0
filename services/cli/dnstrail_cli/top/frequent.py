"""The most frequent keys of a stream in bounded memory (Space-Saving: Metwally, Agrawal, El Abbadi, 2005)."""

from __future__ import annotations

import heapq
from typing import Final

#: names, processes, resolvers or failures that `dnstrail top` holds -> the least frequent one leaves: `left`
MOST_KEYS: Final = 1024
Key = tuple[str, ...]


class Figures:
    """The counts of a key since it is held. Times are ns; `rate` is per second, between the last two ticks.

    `inherited` is the rank that it took over: how often it was counted before it was held, at most.
    """

    __slots__ = ("failed", "inherited", "key", "lookups", "rate", "slowest", "ticked", "timed", "waited")

    def __init__(self, key: Key, inherited: int) -> None:
        self.key = key
        self.inherited = inherited
        self.lookups = self.failed = self.timed = self.waited = self.slowest = self.ticked = 0
        self.rate = 0.0

    @property
    def rank(self) -> int:
        """How often the key was counted, at most."""
        return self.inherited + self.lookups

    @property
    def mean(self) -> int:
        """The mean time until a response."""
        return self.waited // self.timed if self.timed else 0

    def add(self, *, failed: bool, waited: int | None) -> None:
        """Count a lookup, and the time until its response."""
        self.lookups += 1
        self.failed += failed
        if waited is not None:
            self.timed += 1
            self.waited += waited
            self.slowest = max(self.slowest, waited)


class Frequent:
    """The figures of at most MOST_KEYS keys; `left` counts the lookups of keys that are no longer held.

    A further key takes the place and the rank of the least frequent one. So each key that had more than one lookup in
    MOST_KEYS is held, whatever the others are: a flood of keys that come once replaces only the least frequent ones.
    """

    def __init__(self) -> None:
        self.left = 0
        self._held: dict[Key, Figures] = {}
        self._least: list[tuple[int, Key]] = []  # a heap: the rank of each key, or an earlier one

    def __getitem__(self, key: Key) -> Figures:
        """Return the figures of a key, which is held from now on."""
        found = self._held.get(key)
        if found is None:
            inherited = self._make_room() if len(self._held) >= MOST_KEYS else 0
            found = self._held[key] = Figures(key, inherited)
            heapq.heappush(self._least, (inherited, key))
        return found

    def tick(self, seconds: float) -> None:
        """State the rate of each key since the last tick, which was so long ago."""
        for figures in self._held.values():
            figures.rate = (figures.lookups - figures.ticked) / seconds
            figures.ticked = figures.lookups

    def by(self, column: str) -> list[Figures]:
        """Return the figures of all keys, those with the most of a column first."""
        return sorted(
            self._held.values(), key=lambda figures: (-getattr(figures, column), -figures.lookups, figures.key)
        )

    def _make_room(self) -> int:
        """Remove the least frequent key, and return its rank."""
        while True:
            rank, key = self._least[0]
            figures = self._held[key]
            if figures.rank == rank:
                heapq.heappop(self._least)
                del self._held[key]
                self.left += figures.lookups
                return rank
            heapq.heapreplace(self._least, (figures.rank, key))
