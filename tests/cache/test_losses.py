"""What the stats say was lost: each loss at its hop, and all of them in the total."""

from __future__ import annotations

import msgpack
import pytest

from dnstrail.protocol.batches import TURN, Turn
from dnstrail_cache.losses import MOST_WORKERS, WorkerLosses, losses

NONE = {"kernel": {}, "probe": {}, "bus": {}, "decoder": {}, "workers": {}}


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
    """Each loss stands at its hop under its reason; what was passed over on purpose does not."""
    assert losses(probes, bus, image, {}) == {**NONE, **hops, "total": total}


def test_what_other_workers_missed():
    """What other workers told of is a hop of its own, and in the total; again without the ends of turns."""
    told = losses([probe(kernel={"ring_full": 1})], {"dns": 5}, {}, {"dns": 7, TURN: 2})
    assert (told["workers"], told["bus"], told["total"]) == ({"dns": 7, TURN: 2}, {"dns": 5}, 13)


def test_the_last_word_of_a_worker_counts():
    """A worker tells all that it has missed so far, so that only its last word counts; workers are added up."""
    missed = WorkerLosses()
    missed.note("a", {"dns": 1})
    missed.note("b", {"dns": 10, TURN: 1})
    missed.note("a", {"dns": 3})
    assert missed.together == {"dns": 13, TURN: 1}


def test_of_endless_workers_nothing_is_forgotten_but_who_it_was():
    """However many workers come and go, the table stays small, and the sum is right."""
    missed = WorkerLosses()
    for number in range(3 * MOST_WORKERS):
        missed.note(str(number), {"dns": 1})
    assert len(missed._workers) == MOST_WORKERS
    assert missed.together == {"dns": 3 * MOST_WORKERS}


def test_whatever_workers_claim_can_be_told():
    """However much strangers claim to have missed, the sum stays a number that a reply can hold."""
    missed = WorkerLosses()
    for number in range(2 * MOST_WORKERS):
        missed.note(str(number), {TURN: (1 << 53) - 1})
    assert missed.together == {TURN: (1 << 53) - 1}
    assert msgpack.packb(losses([], {}, {}, missed.together))


def test_a_hop_that_the_cache_does_not_know_is_in_the_total():
    """A loss that a newer probe reports at a hop of its own is shown, and is part of the total."""
    assert losses([probe(card={"no_buffer": 7})], {}, {}, {}) == {**NONE, "card": {"no_buffer": 7}, "total": 7}
