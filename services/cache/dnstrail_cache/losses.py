"""The sums of losses between the kernel and the image, by hop and in total (docs/operations.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dnstrail.protocol.batches import TURN, Turn

_HOPS = ("kernel", "probe", "bus", "decoder", "workers")
_UNREADABLE = ("bad_message",)  # counters of the image: messages that are no DNS


def losses_by_hop(
    probes: Iterable[Turn], bus: Mapping[str, int], image: Mapping[str, int], workers: Mapping[str, int]
) -> dict[str, Any]:
    """Return counts by hop and reason: kernel and probe (from the probes), bus, decoder and workers, and their total.

    `bus` is what this cache missed on the bus, `workers` what other workers missed there.

    The counts are events. Two exceptions: losses of dnstap sockets may count connections, and `turn` counts ends of
    turns, which are not in the total.
    """
    hops: dict[str, Counter[str]] = {hop: Counter() for hop in _HOPS}
    for probe in probes:
        for hop, reasons in probe.lost.items():
            hops.setdefault(hop, Counter()).update(reasons)
    hops["bus"] += Counter(bus)
    hops["decoder"] += Counter({reason: image.get(reason, 0) for reason in _UNREADABLE})
    hops["workers"] += Counter(workers)
    total = sum(counts.total() for counts in hops.values()) - hops["bus"][TURN] - hops["workers"][TURN]
    return {**{hop: dict(counts) for hop, counts in hops.items()}, "total": total}
