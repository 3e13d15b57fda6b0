"""The groups of signature workers: who is a member, and how far each handled the events (docs/use/signatures.md)."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import to_builtins
from msgspec.structs import replace

from dnstrail.image.bounds import SECOND
from dnstrail.protocol import MOST_PROBES
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.lookups import OVERLOADED, JoinRequest, RefusedRequestError
from dnstrail.protocol.members import EXPIRY, FORM, MAX_SIGNATURES, Members, Name, Progress
from dnstrail_cache.groups.group import Group, LivingMember

#: members of a group of signature workers -> a further one is refused and handles all events: `join_refused`
MAX_MEMBERS = 64
MAX_GROUPS = 64  #: groups of signature workers -> a further one is refused: `join_refused`
MAX_GROUPS_OF_USER = 8  #: groups of one user -> a further one is refused: `join_refused`
MAX_STARTS = 1 << 18  # that all members report together
MAX_STARTS_OF_USER = 1 << 17  # that those of one user report together
#: seconds for which a group without members is remembered -> its next worker begins with the present
RESUMABLE = 600.0
SHOWN = 20.0  # seconds for which `stats` shows it
_MOST_SAVED = 128 << 10  # bytes of a group in the file of state: all of them fit into the block of its header
_OVERHEAD = 16  # bytes of a start besides its name
_ALL = "all"  # the name under which a group is saved as a whole

GroupKey = tuple[int | str | None, str]  # the user of its members, or the name of their key, and its name


class SavedGroup(msgspec.Struct, frozen=True):
    """A group in the file of state: the progress of its members by name, and when one renewed (wall time, seconds)."""

    user: int | str | None
    name: Name
    renewed: float
    members: Annotated[
        dict[Name, Annotated[tuple[Progress, ...], msgspec.Meta(max_length=MOST_PROBES)]],
        msgspec.Meta(min_length=1, max_length=MAX_MEMBERS),
    ]


class Groups:
    """All groups, in bounded memory.

    A group belongs to one user: the processes of another user are never members of it, so that they cannot take its
    work away. A living member never gives way to a new one.
    """

    def __init__(self, started: float) -> None:
        self.counters: Counter[str] = Counter()
        self._name = secrets.token_hex(8)  # of this run of the cache
        self._started = started
        self._first_epoch = int(started * 1_000_000)  # greater than those of an earlier cache of this host
        self._groups: dict[GroupKey, Group] = {}

    def join(self, request: JoinRequest, now: float, reached: Callable[[str], int | None] = lambda _: None) -> Members:
        """Begin, renew or end a membership, and return the living members of its group.

        `reached` returns the last turn that the cache has received of a start: nobody has handled a later one. Where a
        member was faster than the cache, the others handle some events again. A worker of an earlier version learns
        that it is alone: it handles all events, and the next worker goes on where it ended.

        Raises:
            RefusedError: there are too many groups or members, or they report too many starts.
        """
        group = self._group((request.user, request.group), now)
        known = group.members.get(request.worker)
        self._check_starts(request, known)
        settled = self._is_settled(now)
        returns = known is None and request.cache != "" and (settled or request.cache == self._name)
        if known is None:
            self._check_room(group)
        member = group.admit(request.worker, now)
        member.alone = request.form != FORM
        known_epoch = request.epoch if request.cache == self._name and request.epoch <= group.epoch else 0
        member.knows = group.epoch if member.alone else known_epoch
        member.work = request.work
        progress = [_until(one, reached(one.start)) for one in request.progress]
        member.report(progress, goes_on=known is None and request.cache != "" and not returns)
        behind = {**group.behind} if member.knows < group.ended else {}
        if returns:  # the others gave it nothing before it reported these turns
            progress = [one for one in progress if one.first is not None and one.last >= one.first]
            lasts = ((one.start, one.last) for one in progress)
            behind = behind | {start: min(last, behind.get(start, last)) for start, last in lasts}
        reply = Members(self._first_epoch, settled=True, members=())
        if not member.alone:
            reply = Members(group.epoch, settled, group.others(request.worker, behind), self._name, behind)
        if request.leave:
            group.end(request.worker)
        group.forget_known()
        return reply

    def living(self, now: float) -> Iterator[tuple[GroupKey, Group]]:
        """Yield the groups that have members, or had some lately."""
        for key in [*self._groups]:
            self._expire(key, now)
        yield from ((key, group) for key, group in self._groups.items() if now - group.renewed < SHOWN)

    def saved(self, now: float, wall: float) -> list[SavedGroup]:
        """Return all groups as they are saved; `wall` is the wall time of `now`."""
        saved = ((key, group.renewed, group.handled()) for key, group in self._groups.items())
        return [
            SavedGroup(user, name, wall - (now - renewed), {_ALL: _progress(handled)})
            for (user, name), renewed, handled in saved
        ]

    def resume(self, saved: Iterable[SavedGroup], now: float, wall: float) -> None:
        """Go on with saved groups: their members have left until they renew their memberships."""
        for one in saved:
            if wall - one.renewed < RESUMABLE:
                group = self._groups[one.user, one.name] = Group(self._first_epoch + 1, now)
                group.ended, group.left = group.epoch, len(one.members)
                for progress in one.members.values():
                    group.leave_behind({each.start: each.last for each in progress})

    def _check_starts(self, request: JoinRequest, known: LivingMember | None) -> None:
        """Refuse a report of further starts beyond the bounds.

        Raises:
            RefusedError: there is no room for them.
        """
        further = sum(known is None or one.start not in known.progress for one in request.progress)
        if not further:
            return
        held: Counter[bool] = Counter()  # by whether they are of this user
        for (user, _), other in self._groups.items():
            held[user == request.user] += len(other.behind)
            held[user == request.user] += sum(len(one.progress) for one in other.members.values())
        if held[True] + further > MAX_STARTS_OF_USER or held.total() + further > MAX_STARTS:
            self.counters["join_refused"] += 1
            raise RefusedRequestError(
                OVERLOADED, f"{held.total()} starts are reported; no room for {further} further ones"
            )

    def _is_settled(self, now: float) -> bool:
        return now - self._started >= EXPIRY

    def _group(self, key: GroupKey, now: float) -> Group:
        self._expire(key, now)
        if key not in self._groups:
            self._make_room(key[0], now)
            self._groups[key] = Group(self._first_epoch, now)
        return self._groups[key]

    def _make_room(self, user: int | str | None, now: float) -> None:
        if len(self._groups) >= MAX_GROUPS or self._of_user(user) >= MAX_GROUPS_OF_USER:
            for key in [*self._groups]:
                self._expire(key, now)
            self._drop_ended(user)
        if len(self._groups) >= MAX_GROUPS or self._of_user(user) >= MAX_GROUPS_OF_USER:
            self.counters["join_refused"] += 1
            raise RefusedRequestError(
                OVERLOADED, f"{len(self._groups)} groups of signature workers; no room for another"
            )

    def _drop_ended(self, user: int | str | None) -> None:
        """Drop groups without members until there is room for another group of a user: the oldest ones first."""
        ended = sorted((key for key, group in self._groups.items() if not group.members), key=self._renewed)
        for key in ended:
            if len(self._groups) >= MAX_GROUPS or (key[0] == user and self._of_user(user) >= MAX_GROUPS_OF_USER):
                del self._groups[key]

    def _renewed(self, key: GroupKey) -> float:
        return self._groups[key].renewed

    def _of_user(self, user: int | str | None) -> int:
        return sum(of == user for of, _ in self._groups)

    def _check_room(self, group: Group) -> None:
        if len(group.members) >= MAX_MEMBERS:
            self.counters["join_refused"] += 1
            raise RefusedRequestError(OVERLOADED, f"{MAX_MEMBERS} members in this group; no room for another")

    def _expire(self, key: GroupKey, now: float) -> None:
        """End the memberships that were not renewed, and forget a group that ended long ago."""
        group = self._groups.get(key)
        if group is None:
            return
        late = [name for name, one in group.members.items() if now - one.renewed >= EXPIRY]
        late.sort(key=lambda name: group.members[name].renewed)
        for name in late:
            group.end(name)
        if late:
            group.forget_known()
            self.counters["members_expired"] += len(late)
        if not group.members and now - group.renewed >= RESUMABLE:
            del self._groups[key]


def _progress(handled: dict[str, int]) -> tuple[Progress, ...]:
    """Return the progress of the latest starts, within the bounds of a saved group."""
    kept: list[Progress] = []
    size = 0
    for start, last in islice(reversed(handled.items()), MOST_PROBES):
        size += len(start.encode()) + _OVERHEAD
        if size > _MOST_SAVED:
            break
        kept.append(Progress(start, 0, last))
    return tuple(reversed(kept))


def _until(progress: Progress, reached: int | None) -> Progress:
    return progress if reached is None or progress.last <= reached else replace(progress, last=reached)


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
