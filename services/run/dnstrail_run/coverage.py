"""The completeness of a report: the losses between two turns of a probe, and what no probe sees."""

from __future__ import annotations

from collections.abc import Collection

from dnstrail.protocol.batches import Turn
from dnstrail_run.report import Coverage

BLIND = (
    "datagrams of UDP sockets that are not connected, except DNS; raw sockets; connections to this command; names "
    "behind encrypted DNS; what a service does for the command; containers that start meanwhile are listed by "
    "themselves"
)


def coverage_of(
    first: Turn | None, last: Turn | None, cgroups: Collection[int] | None, *, bus: int, left_out: int, fault: str
) -> Coverage:
    """Return the coverage between the turns before the start and after the end of a command.

    `cgroups` are those whose losses count; None stands for all. `bus` counts events that the bus lost, and `left_out`
    what exceeded the bounds of the report. `fault` states why the capture ended early, or "".
    """
    missed = [fault] if fault else []
    if first is not None and last is not None:
        missed += _losses(first, last, cgroups)
        if first.start != last.start:
            missed.append("The probe was restarted.")
    if bus:
        missed.append(f"The bus lost {bus} events.")
    if left_out:
        missed.append(f"{left_out} events about further names, connections or servers exceeded the bounds.")
    return Coverage(complete=not missed, missed=missed, never_captured=BLIND)


def _losses(first: Turn, last: Turn, cgroups: Collection[int] | None) -> list[str]:
    """Return the losses of the command: those of its cgroups, and those whose cgroup is unknown."""
    kernel = _at(last, "kernel") - _at(first, "kernel")
    probe = _at(last, "probe") - _at(first, "probe")
    if cgroups is not None and (last.lost_by_cgroup or not kernel):
        kernel = sum(_of_cgroup(last, each) - _of_cgroup(first, each) for each in {*cgroups, 0})
    lost = {"kernel": kernel, "probe": probe}
    return [f"The {hop} lost {count} events." for hop, count in lost.items() if count > 0]


def _at(turn: Turn, hop: str) -> int:
    return sum(turn.lost.get(hop, {}).values())


def _of_cgroup(turn: Turn, cgroup: int) -> int:
    return sum(loss.lost for loss in turn.lost_by_cgroup if loss.cgroup == cgroup)
