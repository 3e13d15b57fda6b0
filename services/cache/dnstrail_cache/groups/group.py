"""A group of signature workers: its living members, and how far those that have left had handled the events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dnstrail.protocol.members import Member, Progress, Work

MOST_BYTES = 896 << 10  # of the members in one reply; beyond it a member is left out, and others handle its part, too
_OVERHEAD = 16  # bytes of a start besides its name


@dataclass(slots=True)
class LivingMember:
    """A living member: what it reported last, by start, and when (monotonic).

    `firsts` are the turns from which it counts: it had begun with them when it first reported the start here; `latest`
    is the latest of them. `knows` is the epoch whose changes it has taken in. `alone`: it is of an earlier version and
    handles all events, so that the others share them without it.
    """

    renewed: float
    knows: int = 0
    alone: bool = False
    progress: dict[str, Progress] = field(default_factory=dict)
    firsts: dict[str, int] = field(default_factory=dict)
    latest: int = 0
    work: Work = field(default_factory=Work)

    def report(self, progress: Iterable[Progress], *, goes_on: bool = False) -> None:
        """Take over what the member reports. `goes_on`: it was a member for the others all the time."""
        self.progress = {one.start: one for one in progress}
        known, self.firsts = self.firsts, {}
        for start, one in self.progress.items():
            if one.first is not None:
                self.firsts[start] = (
                    known[start] if start in known else one.first if goes_on else max(one.first, one.last + 1)
                )
        self.latest = max(self.firsts.values(), default=0)

    def ahead(self, lasts: Mapping[str, int]) -> dict[str, int | None]:
        """Return the starts that this member handles from turns after the given ones only, or has not received."""
        if lasts.keys() <= self.firsts.keys() and self.latest <= min(lasts.values(), default=0):
            return {}
        firsts = ((start, self.firsts.get(start), last) for start, last in lasts.items())
        return {start: first for start, first, last in firsts if first is None or first > last}


@dataclass(slots=True)
class Group:
    """The members of one group by name. `epoch` grows with each change of them.

    `behind` holds by start the last turn that the members that have left had all handled; it is empty once each living
    member knows of `ended`, the epoch in which the last one left. `left` counts them. `renewed` is the time at which a
    member renewed its membership last.
    """

    epoch: int
    renewed: float
    members: dict[str, LivingMember] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    ended: int = 0
    left: int = 0

    def admit(self, worker: str, now: float) -> LivingMember:
        """Return the membership of a worker, which may be new."""
        self.renewed = now
        if worker not in self.members:
            self.epoch += 1
            self.members[worker] = LivingMember(now)
        self.members[worker].renewed = now
        return self.members[worker]

    def end(self, worker: str) -> None:
        """End a membership. What the member did not know of, it has not taken over."""
        member = self.members.pop(worker)
        self.leave_behind(self._handled(member))
        self.epoch += 1
        self.ended, self.left = self.epoch, self.left + 1

    def leave_behind(self, lasts: Mapping[str, int]) -> None:
        """Note how far somebody had handled the events that others have to handle from there on."""
        self.behind |= {start: min(last, self.behind.get(start, last)) for start, last in lasts.items()}

    def handled(self) -> dict[str, int]:
        """Return how far all members, and those that have left, had handled the events if all ended now."""
        group = Group(self.epoch, self.renewed, behind={**self.behind})
        for member in self.members.values():
            group.leave_behind(self._handled(member))
        return group.behind

    def forget_known(self) -> None:
        """Forget what was left behind once all living members know of it."""
        if self.members and all(member.knows >= self.ended for member in self.members.values()):
            self.behind.clear()
            self.left = 0

    def others(self, worker: str, behind: Mapping[str, int]) -> tuple[Member, ...]:
        """Return the members as one of them needs them, which is told what was left behind."""
        me = self.members[worker]  # that has taken in nothing so far may have to take over anything
        lasts = {start: min(one.last, behind.get(start, one.last)) for start, one in me.progress.items()}
        lasts = lasts if me.knows else dict.fromkeys(lasts, -1)
        found, size = [], 0
        for name, member in self.members.items():
            if member.alone:
                continue
            ahead = member.ahead(lasts) if name != worker else {}
            size += len(name) + sum(len(start) + _OVERHEAD for start in ahead)
            if size <= MOST_BYTES:
                found.append(Member(name, ahead))
        return tuple(found)

    def _handled(self, member: LivingMember) -> dict[str, int]:
        if member.knows >= self.ended:
            return {start: one.last for start, one in member.progress.items()}
        return {start: min(one.last, self._cap(one)) for start, one in member.progress.items()}

    def _cap(self, progress: Progress) -> int:
        """Return how far a member has handled a start at most if it did not know of those that have left.

        If they have handled nothing of it, and it began in the middle, nobody may have handled the turns before.
        """
        return self.behind.get(progress.start, -1 if progress.first else progress.last)
