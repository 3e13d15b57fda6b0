"""The groups of signature workers in `stats` and `health`: share, lag and failed signatures of their members."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from msgspec import to_builtins

from dnstrail.image.bounds import SECOND
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.members import MAX_SIGNATURES
from dnstrail_cache.groups.group import Group, LivingMember
from dnstrail_cache.groups.groups import GroupKey


def group_stats(groups: Iterable[tuple[GroupKey, Group]], probes: Iterable[Turn]) -> dict[str, Any]:
    """Return the members of each group, by "name of user N"."""
    turns = {probe.start: probe for probe in probes}
    return {_shown(key): _stats_of(group, turns) for key, group in groups}


def failed_signatures(groups: Iterable[tuple[GroupKey, Group]]) -> dict[str, str]:
    """Return why signatures of living members do not run as their settings state, by "signature of user N"."""
    found: dict[str, str] = {}
    for (user, _), group in groups:
        for member in group.members.values():
            found |= {_of_user(name, user): reason for name, reason in member.work.failed.items()}
    return dict(islice(found.items(), MAX_SIGNATURES))


def _stats_of(group: Group, turns: dict[str, Turn]) -> dict[str, Any]:
    total = sum(member.work.handled for member in group.members.values())
    members = {name: _member(member, total, turns) for name, member in group.members.items()}
    return {"epoch": group.epoch, "left": group.left, "members": members}


def _member(member: LivingMember, total: int, turns: dict[str, Turn]) -> dict[str, Any]:
    """Return the counters of a member, and how far it is behind what this cache has received."""
    behind = [(turns[one.start], one) for one in member.progress.values() if one.start in turns]
    events = sum(max(sum((turn.published or {}).values()) - one.published, 0) for turn, one in behind)
    seconds = max((turn.now - one.time for turn, one in behind), default=0) / SECOND
    return {
        "share": round(member.work.handled / total, 3) if total else 0.0,
        "handled": member.work.handled,
        "handled_twice": member.work.twice,
        "handover_lost_turns": member.work.handover_lost,
        "lag_events": events,
        "lag_seconds": round(max(seconds, 0.0), 3),
        "signatures": {name: to_builtins(faults) for name, faults in member.work.signatures.items()},
    }


def _shown(key: GroupKey) -> str:
    user, name = key
    return _of_user(name, user)


def _of_user(name: str, user: int | str | None) -> str:
    return f"{name} of user {'unknown' if user is None else user}"
