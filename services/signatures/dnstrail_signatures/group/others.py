"""The other members of the group, as the cache reports them, and the turns of a start that each handles."""

from __future__ import annotations

from collections.abc import Container

from msgspec import structs

from dnstrail.protocol.members import REMEMBERED, Member, Members, Progress
from dnstrail_signatures.group.ownership import Span

NOTHING = Span(0, -1)  # the turns of a member that left before it handled any


class Others:
    """The members besides this worker, by name.

    A living member never disappears: it has left once the cache has settled and does not report it, as a cache that
    lost its state, or once the cache refuses this worker. Such a member is remembered for REMEMBERED seconds.
    """

    def __init__(self, me: str) -> None:
        self.members: dict[str, Member] = {}
        self._me = me
        self._learned = False
        self._earlier: frozenset[str] = frozenset()  # those that were there before this worker handled anything
        self._vanished: dict[str, float] = {}  # those that left without a report of the cache, and when

    @property
    def living(self) -> frozenset[str]:
        """The names of those that have not left."""
        return frozenset(name for name, member in self.members.items() if not member.left)

    def learn(self, reply: Members, now: float, *, begun: bool) -> None:
        """Take over what the cache replied; `begun` states that this worker has handled something."""
        members = {member.worker: member for member in reply.members if member.worker != self._me}
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
        self.members = {name: structs.replace(one, left=True) for name, one in self.members.items()}

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
            any(one.last >= 0 for member in earlier for one in member.progress)
            and all((one := _progress(member, start)) is None or one.last < 0 for member in self.members.values())
        )

    def _received(self, start: str) -> bool:
        """Return whether a member received a start from its beginning."""
        return any((one := _progress(member, start)) is not None and one.first == 0 for member in self.members.values())

    def _span(self, member: Member, start: str, expected: Container[str]) -> Span | None:
        progress = _progress(member, start)
        if progress is None and member.left:
            return NOTHING if member.worker in self._earlier and not self._received(start) else None
        if progress is None:
            return Span(0) if self._silent(member, start, expected) else None
        if not member.left:
            return None if progress.first is None else Span(progress.first)
        return Span(progress.last + 1 if progress.first is None else progress.first, progress.last)

    @staticmethod
    def _silent(member: Member, start: str, expected: Container[str]) -> bool:
        return member.worker in expected and not member.left and _progress(member, start) is None

    def _missing(self, members: dict[str, Member], now: float) -> dict[str, Member]:
        """Return the members that a settled cache does not report, as having left."""
        gone = {name: one for name, one in self.members.items() if name not in members}
        since = {
            name: self._vanished.get(name, now) for name, one in gone.items() if not one.left or name in self._vanished
        }
        self._vanished = {name: when for name, when in since.items() if now - when < REMEMBERED}
        return {name: structs.replace(gone[name], left=True) for name in self._vanished}


def _progress(member: Member, start: str) -> Progress | None:
    return next((one for one in member.progress if one.start == start), None)
