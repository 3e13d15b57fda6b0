"""The cgroups that lost events at a probe: their unmatched answers are doubted (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dnstrail.protocol.batches import CgroupLoss, Turn

_KERNEL = "kernel"
_BY_CGROUP = frozenset({"tcp_evicted"})  # losses of the probe that are divided like those of the kernel


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
