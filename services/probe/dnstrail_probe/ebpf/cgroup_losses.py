"""The events that the kernel lost, by cgroup, for as many cgroups as a turn names."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

NAMED = 64  # cgroups that a turn names
OTHERS = 0  # in place of a cgroup: every loss that no named cgroup has


class Counts(Protocol):
    """A map of the programs: losses by cgroup id, at most `size` of them."""

    size: int

    def read(self) -> dict[int, int]:
        """Return all counts."""

    def take(self) -> dict[int, int]:
        """Remove all counts from the map, and return them."""


class CgroupLosses:
    """The losses of the cgroups with most losses (`worst`), and all others under OTHERS.

    Invariant: every loss makes the count of its cgroup grow, or else the count of OTHERS. Both happen in the update
    that first includes the loss, and OTHERS never shrinks: a subscriber that compares two turns misses no loss. A map
    that is half full is emptied, so that cgroups which are gone leave room.
    """

    def __init__(self, counts: Counts) -> None:
        self._map = counts
        self._crowded = False
        self._total = 0
        self._taken: Counter[int] = Counter()  # counts that were taken out of the map
        self._known: Counter[int] = Counter()
        self._worst: dict[int, int] = {}
        self._unnamed = 0  # it can be behind for an update: the map is read after the total
        self._others = 0

    @property
    def worst(self) -> dict[int, int]:
        """The losses since the start by cgroup, the greatest first."""
        found = self._worst | ({OTHERS: self._others} if self._others else {})
        return dict(sorted(found.items(), key=lambda entry: -entry[1]))

    def update(self, total: int) -> None:
        """Read the map, if the total of all losses has grown; `total` must be read before."""
        if total == self._total:
            return
        held = self._map.take() if self._crowded else self._map.read()
        known = self._taken + Counter(held)
        worst = Counter(dict(known.most_common(NAMED)))
        worst.pop(OTHERS, None)
        grown = sum(count - self._known[cgroup] for cgroup, count in worst.items())
        self._unnamed += total - self._total - grown
        self._others = max(self._others, self._unnamed)
        if self._crowded:
            known = self._taken = worst
        self._crowded = not self._crowded and len(held) > self._map.size // 2
        self._total, self._known, self._worst = total, known, worst
