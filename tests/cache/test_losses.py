"""What the stats say was lost: each loss at its hop, and all of them in the total."""

from __future__ import annotations

import pytest

from dnstrail.events import LOSSES
from dnstrail.turns import TURN, Turn
from dnstrail_cache.losses import losses

NONE = {"kernel": {}, "probe": {}, "bus": {}, "decoder": {}}


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
    assert losses(probes, bus, image) == {**NONE, **hops, "total": total}


@pytest.mark.parametrize("reason", LOSSES)
def test_every_loss_of_a_probe_is_in_the_total(reason):
    """There is no loss that a probe counts and the stats leave out."""
    assert losses([probe(**{reason: 7})], {}, {})["total"] == 7
