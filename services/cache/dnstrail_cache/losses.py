"""What was lost between the kernel and the image, hop by hop, and in all (DESIGN 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dnstrail.events import LOSSES
from dnstrail.turns import TURN, Turn

_UNREADABLE = ("bad_message",)  # counters of the image: messages that were no DNS


def losses(
    probes: Iterable[Turn], on_the_way: Mapping[str, int], image: Mapping[str, int], workers: Mapping[str, int]
) -> dict[str, Any]:
    """Counts by hop: the kernel and the probe as the probes tell, the bus as this cache noticed, the decoder.

    `workers`: the bus as other workers noticed, each on its own way.

    They are events, but for what dnstap resolvers wrote and was not taken, which is counted in connections, and for
    the ends of turns (`turn`), which are not in the `total`.
    """
    hops: dict[str, Counter[str]] = {hop: Counter() for hop in (*LOSSES.values(), "bus", "decoder", "workers")}
    for probe in probes:
        for reason, hop in LOSSES.items():
            hops[hop] += Counter({reason: probe.counters.get(reason, 0)})
    hops["bus"] += Counter(on_the_way)
    hops["decoder"] += Counter({reason: image.get(reason, 0) for reason in _UNREADABLE})
    hops["workers"] += Counter(workers)
    total = sum(counts.total() for counts in hops.values()) - hops["bus"][TURN] - hops["workers"][TURN]
    return {**{hop: dict(counts) for hop, counts in hops.items()}, "total": total}
