"""What a worker handles of one start of a probe: which share in which turns, and what it has to take over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from dnstrail.protocol.batches import Turn
from dnstrail.protocol.members import Progress
from dnstrail_signatures.group.ownership import Owners, Share

_SPANS = 32  # changes of owners that are remembered


class Span(NamedTuple):
    """The turns in which this worker handled its share among some owners; `last` None: all later ones.

    `at` is the wall time (ns) at its begin, None if it is unknown or if the turns were taken over.
    """

    owners: Owners
    first: int
    last: int | None
    at: int | None = None
    taken_over: bool = False

    def holds(self, turn: int) -> bool:
        """Return whether a turn lies in the span."""
        return self.first <= turn and (self.last is None or turn <= self.last)


class Takeover(NamedTuple):
    """A change of the owners of a start: before it this worker handled `before`.

    Of the turns after `after` it has to handle what was not its own; None: nothing. Those after `counted` are lost if
    nobody has them any more. `ended` is the last turn that was received to its end. `partial`: a part of the first turn
    that was received may have been missed.
    """

    start: str
    owners: Owners
    before: tuple[Span, ...]
    after: int | None
    counted: int
    ended: int
    partial: bool = False

    def shares(self, turn: int, *, latest: bool = False) -> list[Share]:
        """Return the shares of a turn that this worker had before, or the one that it had until now."""
        return shares(self.start, turn, self.before[-1:] if latest else self.before)

    def moves(self, turn: int) -> bool:
        """Return whether actors have moved in a turn."""
        now = self.owners.share(self.start, turn).members
        return any(one.members != now for one in self.shares(turn)) or not self.shares(turn)


def shares(start: str, turn: int, spans: Iterable[Span]) -> list[Share]:
    """Return the different shares of a turn."""
    found = {id(share): share for one in spans if one.holds(turn) for share in [one.owners.share(start, turn)]}
    return [*found.values()]


class HandledStart:
    """A start, whose first message was seen at `seen`, in turn `begun`. `turn` is the last one of which there was any.

    The worker handles its share from turn `first` on: a part of the turn before may have been missed. `owed` is the
    last turn that others have handled before, until this worker has taken over; None: nothing is owed.
    """

    def __init__(self, name: str, seen: float, turn: int, owed: int | None) -> None:
        self.name = name
        self.seen = seen
        self.begun = self.turn = turn
        self.first = turn + 1 if turn else 0
        self.owed = owed
        self._ended: Turn | None = None
        self._since: int | None = None
        self._spans: deque[Span] = deque(maxlen=_SPANS)  # the last one holds the turns to come

    @property
    def settled(self) -> bool:
        """Whether the owners of the start are known."""
        return bool(self._spans)

    @property
    def last(self) -> int:
        """The last turn that was received to its end; before the first one the turn before it."""
        return self._ended.turn if self._ended else self.begun - 1

    def handle(self, turn: Turn) -> None:
        """Note a turn whose events were all handled, or wait for the owners."""
        self._ended = turn
        if self._since is None and turn.turn >= self.first - 1:
            self._since = turn.now + turn.difference

    def owe(self, last: int) -> None:
        """Note that others have handled the start to a turn only."""
        self.owed = last if self.owed is None else min(last, self.owed)

    def shares(self, turn: int) -> list[Share]:
        """Return the shares of this worker in a turn."""
        if self._spans and turn >= self._spans[-1].first:
            return [self._spans[-1].owners.share(self.name, turn)]
        return shares(self.name, turn, self._spans)

    def since(self, turn: int, actor: str) -> int | None:
        """Return the wall time (ns) since when this worker owns an actor without a break; None if it is unknown."""
        found: list[Span] = []
        for span in reversed(self._spans):
            if not span.taken_over:
                if span.owners.share(self.name, turn if span.last is None else span.last).owns(actor):
                    found.append(span)
                elif found:  # else the event belongs to the rest of a turn in which the actor moved away
                    return found[-1].at
        return self._since if found else None

    def progress(self) -> Progress:
        """Return the progress as it is reported."""
        last = self.last if self.settled else self.begun - 1
        published = sum((self._ended.published or {}).values()) if self._ended else 0
        last = last if self.owed is None else min(last, self.owed)
        return Progress(self.name, self.first, last, published, self._ended.now if self._ended else 0)

    def settle(self, owners: Owners, *, counted: bool) -> Takeover:
        """Begin to handle the share of this worker, with all that was received so far.

        `counted`: turns from before are lost if nobody has them.
        """
        last, partial = self.begun - 1, self.owed is not None
        after = self._gained_after(owners, last if self.owed is None else min(self.owed, last), ())
        self._add(owners, after, self.begun)
        counts = after if counted and after is not None else last
        return Takeover(self.name, owners, (), after, counts, self.last, partial)

    def change(self, owners: Owners, left: int | None, counted: int | None) -> Takeover | None:
        """Handle the turns to come with other owners, and take over what was left behind after a turn.

        The turns after `counted` are lost if nobody has them; None: all of these.
        """
        before = tuple(self._spans)
        after = self._gained_after(owners, left, before)
        if after is None and before[-1].owners.after(self.name, self.turn) == owners.after(self.name, self.turn):
            return None
        self._spans.pop()
        if before[-1].first <= self.turn:
            self._spans.append(before[-1]._replace(last=self.turn))
        self._add(owners, after, self.turn + 1)
        known = [one for one in (after, counted) if one is not None]
        return Takeover(self.name, owners, before, after, max(known, default=-1), self.last)

    def _add(self, owners: Owners, after: int | None, turn: int) -> None:
        """Go on with some owners from a turn on, and in the turns after another one that are taken over."""
        self.owed = after
        if after is not None and after + 1 < turn:
            self._spans.append(Span(owners, after + 1, turn - 1, taken_over=True))
        at = self._ended.now + self._ended.difference if self._ended and self._spans else None
        self._spans.append(Span(owners, turn, None, at))

    def _gained_after(self, owners: Owners, left: int | None, before: tuple[Span, ...]) -> int | None:
        """Return the turn after which this worker gains actors, of those after another one; None: it gains none."""
        if left is None:
            return None
        turns = {left + 1, *(one.first for one in before), *((one.last or 0) + 1 for one in before)}
        turns.update(*(known.changes(self.name) for known in (owners, *(one.owners for one in before))))
        gained = (turn for turn in sorted(turns) if left < turn <= self.turn and self._gains(owners, turn, before))
        first = next(gained, None)
        return None if first is None else first - 1

    def _gains(self, owners: Owners, turn: int, before: tuple[Span, ...]) -> bool:
        """Return whether the worker has actors in a turn that it had not before."""
        now, me = {*owners.share(self.name, turn).members}, owners.me
        earlier = (one.members for one in shares(self.name, turn, before))
        return me in now and not any(me in one and now.issuperset(one) for one in earlier)
