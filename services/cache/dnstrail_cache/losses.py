"""The sums of losses between the kernel and the image, by hop and in total (DESIGN 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dnstrail.protocol.batches import TURN, Turn
from dnstrail.protocol.losses import LOSSES

_UNREADABLE = ("bad_message",)  # counters of the image: messages that are no DNS


def losses_by_hop(
    probes: Iterable[Turn], bus: Mapping[str, int], image: Mapping[str, int], workers: Mapping[str, int]
) -> dict[str, Any]:
    """Return counts by hop and reason: kernel and probe (from the probes), bus, decoder and workers, and their total.

    `bus` is what this cache missed on the bus, `workers` what other workers missed there.

    The counts are events. Two exceptions: losses of dnstap sockets may count connections, and `turn` counts ends of
    turns, which are not in the total.
    """
    hops: dict[str, Counter[str]] = {hop: Counter() for hop in (*LOSSES.values(), "bus", "decoder", "workers")}
    for probe in probes:
        for reason, hop in LOSSES.items():
            hops[hop] += Counter({reason: probe.counters.get(reason, 0)})
    hops["bus"] += Counter(bus)
    hops["decoder"] += Counter({reason: image.get(reason, 0) for reason in _UNREADABLE})
    hops["workers"] += Counter(workers)
    total = sum(counts.total() for counts in hops.values()) - hops["bus"][TURN] - hops["workers"][TURN]
    return {**{hop: dict(counts) for hop, counts in hops.items()}, "total": total}
