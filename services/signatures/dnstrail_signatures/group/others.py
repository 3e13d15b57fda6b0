"""The other members of the group, as the cache reports them, and the turns of a start that each handles."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from dnstrail.protocol.members import REMEMBERED, Member, Members, Progress
from dnstrail_signatures.group.ownership import Span

NOTHING = Span(0, -1)  # the turns of a member that left before it handled any


@dataclass(frozen=True, slots=True)
class Other:
    """Another member: what it has reported of each start, and whether it has left."""

    worker: str
    progress: Mapping[str, Progress]
    left: bool

    def after(self, change: Member) -> Other:
        """Return the member after a change."""
        if not (change.progress or change.dropped):
            return self if self.left == change.left else replace(self, left=change.left)
        progress = {start: one for start, one in self.progress.items() if start not in change.dropped}
        progress.update((one.start, one) for one in change.progress)
        return Other(self.worker, progress, change.left)


class Others:
    """The members besides this worker, by name.

    A living member never disappears: it has left once the cache has settled and does not report it, as a cache that
    lost its state, or once the cache refuses this worker. Such a member is remembered for REMEMBERED seconds.
    """

    def __init__(self, me: str) -> None:
        self.members: dict[str, Other] = {}
        self._me = me
        self._reported: dict[str, Other] = {}  # as the cache reports them
        self._learned = False
        self._earlier: frozenset[str] = frozenset()  # those that were there before this worker handled anything
        self._vanished: dict[str, float] = {}  # those that left without a report of the cache, and when

    @property
    def living(self) -> frozenset[str]:
        """The names of those that have not left."""
        return frozenset(name for name, member in self.members.items() if not member.left)

    def learn(self, pages: Sequence[Members], now: float, *, begun: bool) -> None:
        """Take over what the cache replied, in one page or several; `begun` states that this worker handled something.

        The last page states who is a member.
        """
        for page in pages:
            self._reported = {one.worker: self._after(one, page) for one in page.members if one.worker != self._me}
        reply, members = pages[-1], {**self._reported}
        if not (begun and self._learned):
            self._earlier = frozenset(members)
        self._learned = True
        if reply.settled:
            members |= self._missing(members, now)
        else:  # the cache has just started: whoever lives may not have renewed its membership yet
            members |= {name: one for name, one in self.members.items() if name not in members or members[name].left}
        self.members = members

    def lose(self) -> None:
        """Count all as gone: the cache reports no end of a member to this worker any more."""
        self.members = {name: replace(one, left=True) for name, one in self.members.items()}

    def expects(self, start: str, expected: Container[str]) -> bool:
        """Return whether a living member that is expected to handle a start has reported nothing of it."""
        return any(self._silent(member, start, expected) for member in self.members.values())

    def spans(self, start: str, expected: Container[str]) -> dict[str, Span]:
        """Return the turns of a start that each member handles. Those that are expected do so from its beginning."""
        spans = {name: self._span(member, start, expected) for name, member in self.members.items()}
        return {name: span for name, span in spans.items() if span is not None}

    def began(self, start: str) -> bool:
        """Return whether a member received a start from its beginning.

        It also counts as received if a member that left had handled other starts, and no member handled this one.
        """
        earlier = (self.members[name] for name in self._earlier & self.members.keys())
        return self._received(start) or (
            any(one.last >= 0 for member in earlier for one in member.progress.values())
            and all((one := member.progress.get(start)) is None or one.last < 0 for member in self.members.values())
        )

    def _after(self, change: Member, page: Members) -> Other:
        """Return a member after a change; a cache of an earlier version reports everything."""
        known = None if change.whole or not page.cache else self._reported.get(change.worker)
        return (known or Other(change.worker, {}, change.left)).after(change)

    def _received(self, start: str) -> bool:
        """Return whether a member received a start from its beginning."""
        reported = (member.progress.get(start) for member in self.members.values())
        return any(one is not None and one.first == 0 for one in reported)

    def _span(self, member: Other, start: str, expected: Container[str]) -> Span | None:
        progress = member.progress.get(start)
        if progress is None and member.left:
            return NOTHING if member.worker in self._earlier and not self._received(start) else None
        if progress is None:
            return Span(0) if self._silent(member, start, expected) else None
        if not member.left:
            return None if progress.first is None else Span(progress.first)
        return Span(progress.last + 1 if progress.first is None else progress.first, progress.last)

    @staticmethod
    def _silent(member: Other, start: str, expected: Container[str]) -> bool:
        return member.worker in expected and not member.left and start not in member.progress

    def _missing(self, members: Mapping[str, Other], now: float) -> dict[str, Other]:
        """Return the members that a settled cache does not report, as having left."""
        gone = {name: one for name, one in self.members.items() if name not in members}
        since = {
            name: self._vanished.get(name, now) for name, one in gone.items() if not one.left or name in self._vanished
        }
        self._vanished = {name: when for name, when in since.items() if now - when < REMEMBERED}
        return {name: replace(gone[name], left=True) for name in self._vanished}
