"""The groups of signature workers: who is a member, and what each has handled (docs/use/signatures.md)."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec.structs import replace

from dnstrail.probes import MOST_PROBES
from dnstrail.protocol.lookups import OVERLOADED, JoinRequest, RefusedRequestError
from dnstrail.protocol.members import EXPIRY, REMEMBERED, Members, Name, Progress
from dnstrail_cache.groups.group import Group, Membership

MAX_MEMBERS = 64  # of one group, with those that have left
MAX_GROUPS = 64
MAX_GROUPS_OF_USER = 8
MAX_STARTS, MAX_STARTS_OF_USER = 1 << 18, 1 << 17  # that all members report together, and those of one user
RESUMABLE = 600.0  # seconds for which a member that left is remembered if others may not know of it, or none lives

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
        """Begin, renew or end a membership, and return all members of its group.

        `reached` returns the last turn that the cache has received of a start: nobody has handled a later one. Where a
        member was faster than the cache, the others handle some events again.

        Raises:
            RefusedError: there are too many groups or members, or they report too many starts.
        """
        if request.cache and not self._holds(request, now):
            return Members(0, self._is_settled(now), (), self._name, again=True)
        self._check_starts(request)
        group = self._group((request.user, request.group), now)
        member = group.members.get(request.worker)
        if not group.lives:
            group.remember(now)
        if member is None:
            member = self._admit(group, request.worker, now)
        known = member.left is None and request.epoch <= group.epoch  # else the epoch may be of an earlier cache
        member.knows = request.epoch if known else 0
        member.renewed = now
        member.work = request.work
        progress = [_until(one, reached(one.start)) for one in request.progress]
        if request.cache:
            member.update(progress, request.dropped, group.next_version(), MOST_PROBES)
        else:
            member.replace(progress, group.next_version())
        if request.leave:
            group.end([member])
        elif member.left is not None:
            group.epoch, member.left = group.epoch + 1, None
        members, version = group.changes_since(request.version if request.cache else 0)
        more = version < group.version and any(one.latest > version for one in group.members.values())
        return Members(group.epoch, self._is_settled(now), members, self._name, version, more)

    def living(self, now: float) -> Iterator[tuple[GroupKey, Group]]:
        """Yield the groups that have members, or had some lately."""
        for key in [*self._groups]:
            self._expire(key, now)
        yield from ((key, group) for key, group in self._groups.items() if now - group.renewed < REMEMBERED)

    def saved(self, now: float, wall: float) -> list[SavedGroup]:
        """Return all groups as they are saved; `wall` is the wall time of `now`."""
        return [
            SavedGroup(user, name, wall - (now - group.renewed), group.last())
            for (user, name), group in self._groups.items()
        ]

    def resume(self, saved: Iterable[SavedGroup], now: float, wall: float) -> None:
        """Go on with saved groups: their members have left until they renew their memberships."""
        for one in saved:
            if wall - one.renewed < RESUMABLE:
                epoch = self._first_epoch + len(one.members)
                group = self._groups[one.user, one.name] = Group(epoch)
                for name, progress in one.members.items():
                    member = group.members[name] = Membership(now, left=epoch)
                    member.replace(progress, group.next_version())

    def _holds(self, request: JoinRequest, now: float) -> bool:
        """Return whether this run holds what the worker reported before, so that it may report changes alone."""
        key = request.user, request.group
        self._expire(key, now)
        group = self._groups.get(key)
        member = None if group is None else group.members.get(request.worker)
        return request.cache == self._name and member is not None and member.left is None

    def _check_starts(self, request: JoinRequest) -> None:
        """Refuse a report of further starts beyond the bounds.

        Raises:
            RefusedError: there is no room for them.
        """
        group = self._groups.get((request.user, request.group))
        member = None if group is None else group.members.get(request.worker)
        further = sum(member is None or one.start not in member.changed for one in request.progress)
        if not further:
            return
        held: Counter[bool] = Counter()  # by whether they are of this user
        for (user, _), other in self._groups.items():
            held[user == request.user] += sum(len(one.changed) for one in other.members.values())
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
            self._groups[key] = Group(self._first_epoch)
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
        ended = sorted((key for key, group in self._groups.items() if not group.lives), key=self._renewed)
        for key in ended:
            if len(self._groups) >= MAX_GROUPS or (key[0] == user and self._of_user(user) >= MAX_GROUPS_OF_USER):
                del self._groups[key]

    def _renewed(self, key: GroupKey) -> float:
        return self._groups[key].renewed

    def _of_user(self, user: int | str | None) -> int:
        return sum(of == user for of, _ in self._groups)

    def _admit(self, group: Group, name: str, now: float) -> Membership:
        if len(group.members) >= MAX_MEMBERS:
            dispensable = group.dispensable()
            if dispensable is None:
                self.counters["join_refused"] += 1
                raise RefusedRequestError(OVERLOADED, f"{MAX_MEMBERS} members in this group; no room for another")
            del group.members[dispensable]
        group.epoch += 1
        member = group.members[name] = Membership(now)
        return member

    def _expire(self, key: GroupKey, now: float) -> None:
        """End the memberships that were not renewed, and forget those that ended long ago, once each member knows."""
        group = self._groups.get(key)
        if group is None:
            return
        late = [one for one in group.members.values() if one.left is None and now - one.renewed >= EXPIRY]
        if late:
            group.end(late)
            self.counters["members_expired"] += len(late)
        old = [name for name, member in group.members.items() if now - member.renewed >= REMEMBERED]
        known = group.known() if old else {}
        for name in old:
            if name in known or now - group.members[name].renewed >= RESUMABLE:
                del group.members[name]
        if not group.members:
            del self._groups[key]


def _until(progress: Progress, reached: int | None) -> Progress:
    return progress if reached is None or progress.last <= reached else replace(progress, last=reached)
