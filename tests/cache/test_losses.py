"""What the stats say was lost: each loss at its hop, and all of them in the total."""

from __future__ import annotations

import pytest

from dnstrail.protocol.batches import TURN, Turn
from dnstrail.protocol.losses import LOSSES
from dnstrail_cache.losses import losses_by_hop

NONE = {"kernel": {}, "probe": {}, "bus": {}, "decoder": {}, "workers": {}}


def probe(start: str = "s", **counters: int) -> Turn:
    return Turn(start, 1, {}, True, 0, counters=counters)


CASES = {
    "no probe": ([], {}, {}, NONE, 0),
    "nothing lost": ([probe(packets=9, other_port=4)], {}, {"messages": 9}, NONE, 0),
    "the kernel": ([probe(ring_full=3, unreadable=1)], {}, {}, {"kernel": {"ring_full": 3, "unreadable": 1}}, 4),
    "the probe": ([probe(tcp_evicted=2)], {}, {}, {"probe": {"tcp_evicted": 2}}, 2),
    "the bus": ([probe()], {"dns": 5}, {}, {"bus": {"dns": 5}}, 5),
    "ends of turns are no events": ([probe()], {"dns": 5, TURN: 2}, {}, {"bus": {"dns": 5, TURN: 2}}, 5),
    "the decoder": ([probe()], {}, {"bad_message": 6}, {"decoder": {"bad_message": 6}}, 6),
    "two probes": ([probe("a", socket_full=1), probe("b", socket_full=2)], {}, {}, {"kernel": {"socket_full": 3}}, 3),
}


@pytest.mark.parametrize(("probes", "bus", "image", "hops", "total"), CASES.values(), ids=CASES)
def test_losses_by_hop(probes, bus, image, hops, total):
    """Each loss stands at its hop under its reason; what was passed over on purpose does not."""
    assert losses_by_hop(probes, bus, image, {}) == {**NONE, **hops, "total": total}


def test_what_other_workers_missed():
    """What other workers told of is a hop of its own, and in the total; again without the ends of turns."""
    told = losses_by_hop([probe(ring_full=1)], {"dns": 5}, {}, {"dns": 7, TURN: 2})
    assert (told["workers"], told["bus"], told["total"]) == ({"dns": 7, TURN: 2}, {"dns": 5}, 13)


@pytest.mark.parametrize("reason", LOSSES)
def test_every_loss_of_a_probe_is_in_the_total(reason):
    """There is no loss that a probe counts and the stats leave out."""
    assert losses_by_hop([probe(**{reason: 7})], {}, {}, {})["total"] == 7
