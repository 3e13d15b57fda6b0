from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from dnstrail.events import LOSS_REASONS, NET_PACKET_DNS
from dnstrail_signatures.worker_losses import all_losses


def test_every_loss_of_a_worker_is_known_to_the_cache():
    """Each reason that a worker reports is one that the cache accepts."""
    engine = SimpleNamespace(
        counters=Counter(errors=1, refused_events=6),
        budget=SimpleNamespace(missed=Counter(a=2)),
        unavailable=Counter(a=3),
    )
    lost = all_losses({NET_PACKET_DNS: 1}, engine, unnamed=4, undelivered=5)
    assert lost.pop(NET_PACKET_DNS) == 1
    assert set(lost) == {*LOSS_REASONS}
