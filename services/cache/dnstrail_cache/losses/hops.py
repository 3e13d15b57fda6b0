"""The losses between kernel and image: sums by hop, and the cgroups that they put in doubt (docs/use/operate.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from dnstrail.image.answer import CLIENT, PartyKey
from dnstrail.protocol.batches import TURN, CgroupLoss, Turn

_KERNEL = "kernel"
_BY_CGROUP = frozenset({"tcp_evicted"})  # losses of the probe that are divided like those of the kernel
_HOPS = ("kernel", "probe", "bus", "cache", "decoder", "workers")
SKIPPED = "skipped_behind"  # the counter of the image: answers beyond the part of their owner in the work
_UNREADABLE = ("bad_message",)  # counters of the image: messages that are no DNS
_WORST = 10  # cgroups, or hosts


def losses_by_hop(
    probes: Iterable[Turn], bus: Mapping[str, int], image: Mapping[str, int], workers: Mapping[str, int]
) -> dict[str, Any]:
    """Return counts by hop and reason: kernel and probe (from the probes), bus, cache, decoder, workers; their total.

    `bus` is what this cache missed on the bus, `workers` what other workers missed there.

    The counts are events. Two exceptions: losses of dnstap sockets may count connections, and `turn` counts ends of
    turns, which are not in the total.
    """
    hops: dict[str, Counter[str]] = {hop: Counter() for hop in _HOPS}
    for probe in probes:
        for hop, reasons in probe.lost.items():
            hops.setdefault(hop, Counter()).update(reasons)
    hops["bus"] += Counter(bus)
    hops["cache"] += Counter({SKIPPED: image.get(SKIPPED, 0)})
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


def losses_by_host(probes: Iterable[Turn], missed: Callable[[str], int]) -> dict[str, int]:
    """Return the losses of the ten hosts that lost most, the greatest first: at their probes, and on the bus.

    `missed` returns the events of a start that this cache missed on the bus. A host states its losses by itself, so
    that a hostile one may state any number.
    """
    lost: Counter[str] = Counter()
    for probe in probes:
        lost[probe.host] += missed(probe.start) + sum(sum(reasons.values()) for reasons in probe.lost.values())
    return {host: count for host, count in lost.most_common(_WORST) if count}


def worst_owners(skipped: Counter[PartyKey]) -> dict[str, int]:
    """Return the skipped answers of the ten owners of which most were skipped, the greatest first."""
    return {_shown_owner(*owner): count for owner, count in skipped.most_common(_WORST)}


def _shown_owner(host: str, sort: str, number: int) -> str:
    """Return an owner for people: its sort, its number or address, and its host."""
    shown = str(ip_address(number)) if sort == CLIENT and number < 1 << 128 else str(number)
    return f"{sort or 'others'} {shown if sort else ''}".rstrip() + (f" of {host}" if host else "")


def _shown(name: str, host: str, cgroup: int, owner: int) -> str:
    place = f" of {host}" if host else ""
    if not cgroup and not owner:
        return f"other cgroups{place}"
    return f"{name or 'unknown'} ({'cgroup' if cgroup else 'other cgroups below'} {cgroup or owner}{place})"


class Loser(NamedTuple):
    """A cgroup that lost events, and its owner; without a cgroup all cgroups of the owner, without both of the host."""

    cgroup: int = 0
    owner: int = 0


EVERYBODY = Loser()


def losers(turn: Turn, earlier: Turn | None) -> Iterator[Loser]:
    """Yield the cgroups that lost events since the last turn of the same start that was received.

    EVERYBODY stands for all cgroups: the source does not know which of them lost events.
    """
    before = {} if earlier is None else earlier.lost
    for hop, reasons in turn.lost.items():
        if hop == _KERNEL and turn.lost_by_cgroup:
            continue
        known, divided = before.get(hop, {}), _BY_CGROUP if turn.lost_by_cgroup else frozenset()
        if any(lost > known.get(reason, 0) for reason, lost in reasons.items() if reason not in divided):
            yield EVERYBODY
            return
    of_cgroup = {} if earlier is None else {_key(one): one.lost for one in earlier.lost_by_cgroup}
    for one in turn.lost_by_cgroup:
        if one.lost > of_cgroup.get(_key(one), 0):
            yield Loser(one.cgroup, one.owner)


def _key(loss: CgroupLoss) -> Loser:
    """Return what an entry counts for; a cgroup can get another owner."""
    return Loser(loss.cgroup) if loss.cgroup else Loser(owner=loss.owner)
