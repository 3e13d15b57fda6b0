from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from dnstrail_probe.ebpf.cgroup_losses import NAMED, OTHERS, CgroupLosses

SIZE = 256


class Kernel:
    """The map and the total of the programs: a cgroup that finds no room is counted in the total alone."""

    def __init__(self) -> None:
        self.size = SIZE
        self.total = 0
        self.counts: Counter[int] = Counter()

    def lose(self, cgroup: int, events: int = 1) -> None:
        """Lose events of a cgroup."""
        if cgroup in self.counts or len(self.counts) < self.size:
            self.counts[cgroup] += events
        self.total += events

    def read(self) -> dict[int, int]:
        """Return all counts."""
        return dict(self.counts)

    def take(self) -> dict[int, int]:
        """Remove and return all counts."""
        found = dict(self.counts)
        self.counts.clear()
        return found


@pytest.fixture
def kernel() -> Kernel:
    """Return a kernel without losses."""
    return Kernel()


@pytest.fixture
def losses(kernel) -> CgroupLosses:
    """Return the losses of the kernel; the owners of the cgroups are unknown."""
    return CgroupLosses(kernel, lambda _cgroup: 0)


def test_each_cgroup_has_its_own_losses(kernel, losses):
    """Losses count for their cgroup, the greatest first; cgroup 0 is no cgroup."""
    for cgroup, events in ((4, 1), (9, 5), (4, 2), (0, 7)):
        kernel.lose(cgroup, events)
        losses.update(kernel.total)
    assert list(losses.worst.items()) == [(OTHERS, 7), (9, 5), (4, 3)]


def test_cgroups_beyond_the_bound_count_together(kernel, losses):
    """At most 64 cgroups are named, those with most losses; the others are added up."""
    for cgroup in range(1, NAMED + 11):
        kernel.lose(cgroup, cgroup)
    losses.update(kernel.total)
    assert set(losses.worst) == {OTHERS, *range(11, NAMED + 11)}
    assert losses.worst[OTHERS] == sum(range(1, 11))


def test_a_loss_without_room_in_the_map_counts(kernel, losses):
    """A loss that found no room in the map of the kernel counts for other cgroups."""
    for cgroup in range(1, SIZE + 1):
        kernel.lose(cgroup)
    losses.update(kernel.total)
    before = losses.worst[OTHERS]
    kernel.lose(SIZE + 5)
    losses.update(kernel.total)
    assert losses.worst[OTHERS] == before + 1


def test_a_full_map_becomes_empty(kernel, losses):
    """Cgroups that are gone do not fill the map for good: a later cgroup is named again."""
    for cgroup in range(1, SIZE + 1):
        kernel.lose(cgroup)
    losses.update(kernel.total)
    kernel.lose(SIZE)
    losses.update(kernel.total)
    kernel.lose(SIZE + 5, 3)
    losses.update(kernel.total)
    assert losses.worst[SIZE + 5] == 3


def test_a_map_that_is_ahead_of_the_total_adds_nothing(kernel, losses):
    """A loss between the reading of the total and of the map counts once."""
    kernel.lose(4, 5)
    losses.update(kernel.total - 1)
    losses.update(kernel.total)
    assert losses.worst == {4: 5}


@pytest.mark.parametrize("seed", range(20))
def test_every_loss_makes_a_count_grow(kernel, losses, seed):
    """In each update the counts of named cgroups and of the others grow by all losses since the update before."""
    random = Random(seed)
    for _ in range(200):
        before = losses.worst
        lost = random.randrange(1, 40)
        for _ in range(lost):
            kernel.lose(int(random.paretovariate(0.3)) % 500 + 1)
        losses.update(kernel.total)
        after = losses.worst
        assert after.get(OTHERS, 0) >= before.get(OTHERS, 0)
        grown = sum(max(count - before.get(cgroup, 0), 0) for cgroup, count in after.items())
        assert grown >= lost
        assert len(after) <= NAMED + 1


def test_the_many_cgroups_of_a_user_count_for_their_owner(kernel):
    """The losses of further cgroups count for their owners: they are no losses of others."""
    losses = CgroupLosses(kernel, lambda cgroup: 999 if cgroup < 200 else cgroup)
    for cgroup in range(1, 150):
        kernel.lose(cgroup, 2)
    kernel.lose(200)
    losses.update(kernel.total)
    assert len(losses.worst) == NAMED
    assert losses.owners == {999: 2 * (149 - NAMED), 200: 1}
    assert OTHERS not in losses.worst


def test_owners_beyond_the_bound_count_together(kernel):
    """At most 64 owners are named; the losses of the others are added up."""
    losses = CgroupLosses(kernel, lambda cgroup: cgroup)
    for cgroup in range(1, 2 * NAMED + 11):
        kernel.lose(cgroup)
    losses.update(kernel.total)
    assert len(losses.owners) == NAMED
    assert losses.worst[OTHERS] == 10


@pytest.mark.parametrize("seed", range(20))
def test_every_loss_makes_a_count_grow_also_of_an_owner(kernel, seed):
    """In each update the counts of cgroups, of owners and of the others grow by all losses since the update before."""
    random, losses = Random(seed), CgroupLosses(kernel, lambda cgroup: cgroup % 100)
    for _ in range(200):
        before, owned = losses.worst, losses.owners.copy()
        lost = random.randrange(1, 40)
        for _ in range(lost):
            kernel.lose(int(random.paretovariate(0.3)) % 500 + 1)
        losses.update(kernel.total)
        grown = sum(max(count - before.get(cgroup, 0), 0) for cgroup, count in losses.worst.items())
        grown += (losses.owners - owned).total()
        assert grown >= lost
        assert owned <= losses.owners
