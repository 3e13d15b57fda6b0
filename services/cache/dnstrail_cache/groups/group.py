"""A group of signature workers: its members, and what those that have left have handled together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from dnstrail.protocol.members import Member, Progress, Work

MOST_BYTES = 896 << 10  # of the changes in one reply, unless one member changed more at once
_OVERHEAD = 40  # bytes of a change besides the name of its start, at most


@dataclass(slots=True)
class Membership:
    """One member: what it reported last, by start, and when (monotonic).

    `knows` is the epoch whose changes it has taken in. `left` is the epoch in which it left, None while it lives.
    `changed` is the version in which the others had to learn of a start, also of one that is dropped, and `since` the
    version before which nothing of it counts. `latest` is the last of these.
    """

    renewed: float
    progress: dict[str, Progress] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    knows: int = 0
    left: int | None = None
    changed: dict[str, int] = field(default_factory=dict)
    since: int = 0
    latest: int = 0

    def replace(self, progress: Iterable[Progress], version: int) -> None:
        """Take over everything that the member reports."""
        self.progress = {one.start: one for one in progress}
        self.changed = dict.fromkeys(self.progress, version)
        self.since = self.latest = version

    def update(self, progress: Iterable[Progress], dropped: Iterable[str], version: int, most: int) -> None:
        """Take over what has changed, and remember at most `most` starts."""
        changed = [start for start in dropped if self.progress.pop(start, None) is not None]
        for one in progress:
            before = self.progress.get(one.start)
            self.progress[one.start] = one
            if before is None or before.first != one.first or (before.last < 0) != (one.last < 0):
                changed.append(one.start)
        if changed:
            self.changed.update(dict.fromkeys(changed, version))
            self.latest = version
        if len(self.changed) > most:  # the oldest of those that were dropped
            self.replace([*self.progress.values()][-most:], version)

    def end(self, progress: dict[str, Progress], version: int) -> None:
        """Take over the progress of a member that has left."""
        changed = [start for start, one in progress.items() if one != self.progress.get(start)]
        self.progress = progress
        if changed:
            self.changed.update(dict.fromkeys(changed, version))
            self.latest = version


@dataclass(slots=True)
class Group:
    """The members of one group by name. `epoch` grows with each change of them, and `version` with each report."""

    epoch: int = 0
    members: dict[str, Membership] = field(default_factory=dict)
    version: int = 1

    def next_version(self) -> int:
        """Return the version of the next change of one member."""
        self.version += 1
        return self.version

    @property
    def lives(self) -> bool:
        """Whether the group has a member that has not left."""
        return any(member.left is None for member in self.members.values())

    @property
    def renewed(self) -> float:
        """When a member renewed its membership last."""
        return max(member.renewed for member in self.members.values())

    def known(self) -> dict[str, int]:
        """Return the members that left and that all living ones know to have left, each with the epoch of its end."""
        left = {name: one.left for name, one in self.members.items() if one.left is not None}
        if not left:
            return {}
        knows = min((member.knows for member in self.members.values() if member.left is None), default=0)
        return {name: epoch for name, epoch in left.items() if epoch <= knows}

    def dispensable(self) -> str | None:
        """Return a member that has left, whose end may be forgotten.

        If none lives, it is the one that left last: the turns of the others show what they had not handled.
        """
        known = self.known()
        if known or self.lives:
            return min(known, key=known.__getitem__, default=None)
        return max(self.members, key=lambda name: _left(self.members[name]))

    def remember(self, now: float) -> None:
        """Remember all members as if they had left now: the next one has to learn of them."""
        for member in self.members.values():
            member.renewed = now

    def last(self) -> dict[str, tuple[Progress, ...]]:
        """Return the progress of the members, as if all left now, without those of whose end all others know."""
        members = {name: replace(one, changed={**one.changed}) for name, one in self.members.items()}
        Group(self.epoch, members).end([one for one in members.values() if one.left is None])
        known = self.known()
        return {name: tuple(one.progress.values()) for name, one in members.items() if name not in known}

    def end(self, leaving: Collection[Membership]) -> None:
        """End memberships.

        A member that leaves takes nothing over from one of whose end it did not know: after the last turn of the one,
        neither has handled everything. The progress of both ends there.
        """
        self.epoch += len(leaving)
        for member in leaving:
            member.left = self.epoch
            version = self.next_version()
            member.changed.update(dict.fromkeys(member.progress, version))  # the others need its last turns now
            member.latest = version
        self._end_together([one for one in self.members.values() if one.left is not None])

    def changes_since(self, version: int) -> tuple[tuple[Member, ...], int]:
        """Return all members with some of what has changed since a version, the oldest first, and until when."""
        sizes: Counter[int] = Counter()  # by version
        for member in self.members.values():
            if member.latest > version:
                for start, changed in member.changed.items():
                    sizes[changed] += len(start) + _OVERHEAD
        until, size = self.version, 0
        for changed in sorted(sizes):
            if changed > version:
                size += sizes[changed]
                if size > MOST_BYTES and size > sizes[changed]:  # each version as a whole, and one at least
                    until = changed - 1
                    break
        return tuple(_changes(name, one, version, until) for name, one in self.members.items()), until

    def _end_together(self, gone: list[Membership]) -> None:
        for member, progress in _ended_together(gone):
            member.end(progress, self.next_version())


def _changes(name: str, member: Membership, version: int, until: int) -> Member:
    """Return what has changed of a member after a version and up to another one."""
    left = member.left is not None
    if member.latest <= version:
        return Member(name, left=left)
    starts = [start for start, changed in member.changed.items() if version < changed <= until]
    return Member(
        name,
        tuple(member.progress[start] for start in starts if start in member.progress),
        left,
        tuple(start for start in starts if start not in member.progress),
        whole=version < member.since,
    )


def _ended_together(gone: list[Membership]) -> Iterator[tuple[Membership, dict[str, Progress]]]:
    gone.sort(key=_left, reverse=True)
    lasts: dict[str, int] = {}  # by start
    counted = 0
    for member, unknown in sorted(((one, _unknown(one, gone)) for one in gone), key=lambda pair: pair[1]):
        for other in gone[counted:unknown]:
            for one in other.progress.values():
                if one.first is not None:
                    last = max(one.first - 1, one.last)  # the turns before its first one are not its own
                    lasts[one.start] = min(last, lasts.get(one.start, last))
        counted = max(counted, unknown)
        yield member, {start: _until(lasts.get(start, one.last), one) for start, one in member.progress.items()}


def _unknown(member: Membership, gone: Sequence[Membership]) -> int:
    """Return how many members left after the epoch that it knew, or that one of them knew; the last ones come first."""
    knows = member.knows
    for number, other in enumerate(gone):
        if _left(other) <= knows:
            return number
        knows = min(knows, other.knows)
    return len(gone)


def _left(member: Membership) -> int:
    return member.left or 0


def _until(last: int, progress: Progress) -> Progress:
    return progress if progress.last <= last else structs.replace(progress, last=last)
