"""The events that the kernel lost, by cgroup for as many cgroups as a turn names, then by owner."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable

from dnstrail.kernel.bpf import read_batch

#: cgroups that a probe names with their losses, and owners of further ones -> the losses of the others are added up
NAMED = 64
OTHERS = 0  # in place of a cgroup: every loss that no named cgroup has


class LossMap:
    """A hash map with at most `size` counts, by cgroup id. The caller owns the descriptor."""

    def __init__(self, map_fd: int, size: int) -> None:
        self.size = size
        self._fd = map_fd
        self._keys, self._values = (ctypes.c_uint64 * size)(), (ctypes.c_uint64 * size)()

    def read(self) -> dict[int, int]:
        """Return all counts."""
        return self._batch(take=False)

    def take(self) -> dict[int, int]:
        """Remove all counts from the map, and return them."""
        return self._batch(take=True)

    def _batch(self, *, take: bool) -> dict[int, int]:
        try:
            count = read_batch(self._fd, self._keys, self._values, take=take)
        except OSError:
            return {}
        return dict(zip(self._keys[:count], self._values[:count], strict=True))


class WithStreams:
    """The losses of the programs, and the TCP streams that the probe evicted, by cgroup."""

    def __init__(self, kernel: LossMap, streams: Counter[int]) -> None:
        self.size = kernel.size
        self._kernel = kernel
        self._streams = streams

    def read(self) -> dict[int, int]:
        """Return all counts."""
        return self._streams + Counter(self._kernel.read())

    def take(self) -> dict[int, int]:
        """Remove all counts, and return them."""
        found = self._streams + Counter(self._kernel.take())
        self._streams.clear()
        return found


class CgroupLosses:
    """The losses of the cgroups with most losses (`worst`), those of the others by owner, and all else under OTHERS.

    Invariant: every loss makes the count of its cgroup grow, else that of its owner, else the count of OTHERS. This
    happens in the update that first includes the loss, and the latter never shrink: a subscriber that compares two
    turns misses no loss. A map that is half full is emptied, so that cgroups which are gone leave room. `owner_of`
    returns the owner of a cgroup, 0 if it is unknown: a user whose many cgroups lose events is in doubt alone.
    """

    def __init__(self, counts: LossMap | WithStreams, owner_of: Callable[[int], int]) -> None:
        self.owners: Counter[int] = Counter()
        self._map = counts
        self._owner_of = owner_of
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
        grown = sum(count - self._known[cgroup] for cgroup, count in worst.items()) + self._add_to_owners(known, worst)
        self._unnamed += total - self._total - grown
        self._others = max(self._others, self._unnamed)
        if self._crowded:
            known = self._taken = worst
        self._crowded = not self._crowded and len(held) > self._map.size // 2
        self._total, self._known, self._worst = total, known, worst

    def _add_to_owners(self, known: Counter[int], worst: Counter[int]) -> int:
        """Add the new losses of all but the worst cgroups to their owners; return how many were added."""
        before = self.owners.total()
        for cgroup, count in known.items():
            new = count - self._known[cgroup]
            if cgroup == OTHERS or cgroup in worst or not new:
                continue
            owner = self._owner_of(cgroup)
            if owner and (owner in self.owners or len(self.owners) < NAMED):
                self.owners[owner] += new
        return self.owners.total() - before
