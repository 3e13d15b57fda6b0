"""The losses in the stats: each at its hop, and all of them in the total."""

from __future__ import annotations

import pytest

from dnstrail.image import Image
from dnstrail.protocol.batches import TURN, CgroupLoss, Turn
from dnstrail.protocol.lookups import StatsRequest
from dnstrail_cache.lookups.answers import answer
from dnstrail_cache.losses import losses_by_hop, losses_by_host, worst_cgroups
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock

NONE = {"kernel": {}, "probe": {}, "bus": {}, "cache": {}, "decoder": {}, "workers": {}}


def probe(start: str = "s", counters: dict | None = None, **lost: dict) -> Turn:
    return Turn(start, 1, {}, True, 0, counters=counters or {}, lost=lost)


CASES = {
    "no probe": ([], {}, {}, NONE, 0),
    "nothing lost": ([probe(counters={"packets": 9, "other_port": 4})], {}, {"messages": 9}, NONE, 0),
    "the kernel": (
        [probe(kernel={"ring_full": 3, "unreadable": 1})],
        {},
        {},
        {"kernel": {"ring_full": 3, "unreadable": 1}},
        4,
    ),
    "the probe": ([probe(probe={"tcp_evicted": 2})], {}, {}, {"probe": {"tcp_evicted": 2}}, 2),
    "the bus": ([probe()], {"dns": 5}, {}, {"bus": {"dns": 5}}, 5),
    "ends of turns are no events": ([probe()], {"dns": 5, TURN: 2}, {}, {"bus": {"dns": 5, TURN: 2}}, 5),
    "the cache": ([probe()], {}, {"skipped_behind": 7}, {"cache": {"skipped_behind": 7}}, 7),
    "the decoder": ([probe()], {}, {"bad_message": 6}, {"decoder": {"bad_message": 6}}, 6),
    "two probes": (
        [probe("a", kernel={"full": 1}), probe("b", kernel={"full": 2})],
        {},
        {},
        {"kernel": {"full": 3}},
        3,
    ),
}


@pytest.mark.parametrize(("probes", "bus", "image", "hops", "total"), CASES.values(), ids=CASES)
def test_losses_by_hop(probes, bus, image, hops, total):
    """Each loss is counted at its hop by its reason; events that were skipped on purpose are not."""
    assert losses_by_hop(probes, bus, image, {}) == {**NONE, **hops, "total": total}


def test_what_other_workers_missed():
    """The reports of other workers are a hop of their own and part of the total, without the ends of turns."""
    counted = losses_by_hop([probe(kernel={"ring_full": 1})], {"dns": 5}, {}, {"dns": 7, TURN: 2})
    assert (counted["workers"], counted["bus"], counted["total"]) == ({"dns": 7, TURN: 2}, {"dns": 5}, 13)


def test_a_hop_that_the_cache_does_not_know_is_in_the_total():
    """A loss that a newer probe reports at a hop of its own is shown, and is part of the total."""
    assert losses_by_hop([probe(card={"no_buffer": 7})], {}, {}, {}) == {**NONE, "card": {"no_buffer": 7}, "total": 7}


def losing(start: str, host: str, *losses: tuple[int, int, str] | tuple[int, int, str, int]) -> Turn:
    return Turn(start, 1, {}, True, 0, host=host, lost_by_cgroup=tuple(CgroupLoss(*loss) for loss in losses))


def test_the_ten_worst_cgroups_are_named():
    """The ten cgroups with most losses are named with their id, the greatest first."""
    probe = losing("s", "", *((number, number, f"/{number}") for number in range(1, 21)))
    assert list(worst_cgroups([probe]).items()) == [
        (f"/{number} (cgroup {number})", number) for number in range(20, 10, -1)
    ]


def test_the_stats_contain_the_worst_cgroups():
    """The reply to `stats` contains the losses by cgroup, whose names are those that the probe published."""
    state = CacheState(Image(), FakeClock())
    state.follower.turn(losing("s", "", (5, 3, "/web.slice")))
    assert answer(StatsRequest(), state)["lost_by_cgroup"] == {"/web.slice (cgroup 5)": 3}


def test_the_losses_of_a_cgroup_add_up_over_the_starts_of_a_probe():
    """Starts on one host count together; cgroups of other hosts, and cgroups without a name, are told apart."""
    probes = [
        losing("a", "one", (5, 3, "web"), (0, 1, "")),
        losing("b", "one", (5, 4, ""), (6, 2, "")),
        losing("c", "two", (5, 1, "/", 4), (0, 9, "/user.slice/user-1000.slice", 4)),
    ]
    assert worst_cgroups(probes) == {
        "/user.slice/user-1000.slice (other cgroups below 4 of two)": 9,
        "web (cgroup 5 of one)": 7,
        "unknown (cgroup 6 of one)": 2,
        "other cgroups of one": 1,
        "/ (cgroup 5 of two)": 1,
    }


def test_losses_are_counted_by_host():
    """The losses of a host are those at its probes and those on the bus; the ten hosts that lost most are shown."""
    hosts = [Turn(f"{n}", 1, {}, True, 0, host=f"h{n // 2}", lost={"kernel": {"full": n}}) for n in range(2, 30)]
    shown = losses_by_host(hosts, lambda start: 5 if start == "28" else 0)
    assert [*shown.items()][:2] == [("h14", 62), ("h13", 53)]
    assert len(shown) == 10
    assert losses_by_host([Turn("s", 1, {}, True, 0)], lambda _: 0) == {}
