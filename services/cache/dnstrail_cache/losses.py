"""The sums of losses between the kernel and the image, by hop and in total (docs/operations.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dnstrail.protocol.batches import TURN, Turn

_HOPS = ("kernel", "probe", "bus", "decoder", "workers")
_UNREADABLE = ("bad_message",)  # counters of the image: messages that are no DNS
_WORST = 10  # cgroups


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


def worst_cgroups(probes: Iterable[Turn]) -> dict[str, int]:
    """Return the losses of the ten cgroups that lost most in the kernel, the greatest first.

    A key contains the name, the id and the host of a cgroup. Cgroups that no probe names count as one for each owner.
    """
    lost: Counter[tuple[str, int, int]] = Counter()
    names: dict[tuple[str, int, int], str] = {}
    for probe in probes:
        for loss in probe.lost_by_cgroup:
            key = probe.host, loss.cgroup, 0 if loss.cgroup else loss.owner
            lost[key] += loss.lost
            names[key] = loss.name or names.get(key, "")
    return {_shown(names[key], *key): count for key, count in lost.most_common(_WORST)}


def _shown(name: str, host: str, cgroup: int, owner: int) -> str:
    place = f" of {host}" if host else ""
    if not cgroup and not owner:
        return f"other cgroups{place}"
    return f"{name or 'unknown'} ({'cgroup' if cgroup else 'other cgroups below'} {cgroup or owner}{place})"
