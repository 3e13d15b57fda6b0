"""A group of signature workers: its members, and what those that have left have handled together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from dnstrail.protocol.members import Progress, Work


@dataclass(slots=True)
class Membership:
    """One member: what it reported last, and when (monotonic).

    `knows` is the epoch whose changes it has taken in. `left` is the epoch in which it left, None while it lives.
    """

    renewed: float
    progress: tuple[Progress, ...] = ()
    work: Work = field(default_factory=Work)
    knows: int = 0
    left: int | None = None


@dataclass(slots=True)
class Group:
    """The members of one group by name. `epoch` grows with each change of them."""

    epoch: int = 0
    members: dict[str, Membership] = field(default_factory=dict)

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
        members = {name: replace(one) for name, one in self.members.items()}
        Group(self.epoch, members).end([one for one in members.values() if one.left is None])
        known = self.known()
        return {name: one.progress for name, one in members.items() if name not in known}

    def end(self, leaving: Collection[Membership]) -> None:
        """End memberships.

        A member that leaves takes nothing over from one of whose end it did not know: after the last turn of the one,
        neither has handled everything. The progress of both ends there.
        """
        self.epoch += len(leaving)
        for member in leaving:
            member.left = self.epoch
        _end_together([one for one in self.members.values() if one.left is not None])


def _end_together(gone: list[Membership]) -> None:
    gone.sort(key=_left, reverse=True)
    lasts: dict[str, int] = {}  # by start
    counted = 0
    for member, unknown in sorted(((one, _unknown(one, gone)) for one in gone), key=lambda pair: pair[1]):
        for other in gone[counted:unknown]:
            for one in other.progress:
                if one.first is not None:
                    last = max(one.first - 1, one.last)  # the turns before its first one are not its own
                    lasts[one.start] = min(last, lasts.get(one.start, last))
        counted = max(counted, unknown)
        member.progress = tuple(_until(lasts.get(one.start, one.last), one) for one in member.progress)


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
