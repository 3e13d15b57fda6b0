"""The membership of this worker in its group: renewed each second at the cache, without waiting for it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from dnstrail.client import LookupClient
from dnstrail.errors import DnstrailError, LookupRefused, Unavailable
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.members import EXPIRY, RENEWAL, Members, Progress, Work
from dnstrail_signatures.group.others import Others
from dnstrail_signatures.group.ownership import Owners, Span
from dnstrail_signatures.group.report import Report

_AGAIN = 0.1  # seconds until a request that could not be sent is sent again
_LATE = 1.5 * RENEWAL  # seconds after a renewal after which the next step is late
_AHEAD = 3  # turns at least, since an idle probe may be busy in the next moment
_CHANGES = 16  # changes of owners that are remembered, to report since when an actor is owned
_MOST_PAGES = 32  # of one reply: more than those of a full group
_TIMEOUT = 0.5  # seconds that the end of a worker waits for the cache


@dataclass(slots=True)
class _Start:
    """A start of a probe: when its first message arrived, and what was received of it.

    `first` is the turn from which this worker handles its share, and `since` the wall time (ns) of its beginning. A
    start is settled once a reply of the cache stated the members at its beginning, `expected`. They count as handling
    it until they report otherwise, or for EXPIRY. Until then it is not `shared`: nobody may have handled their part.
    """

    seen: float
    seen_turn: int
    first: int | None
    settled: bool = False
    shared: bool = False
    expected: frozenset[str] = frozenset()
    turn: Turn | None = None
    since: int | None = None

    def handle(self, turn: Turn) -> None:
        """Note a turn whose events were all handled."""
        self.turn = turn
        if self.since is None and self.first is not None and turn.turn >= self.first - 1:
            self.since = _wall_time(turn)

    @property
    def last(self) -> int:
        """The last turn that was received to its end; before the first one the turn before it."""
        return self.turn.turn if self.turn else self.seen_turn - 1

    @property
    def handled(self) -> int:
        """The last turn of which nothing is left behind if this worker ends now."""
        return self.last if self.shared else -1


class Membership:
    """The group of this worker as the cache reports it: `owners` follows from it.

    A worker that receives a start from its beginning handles its share from turn 0. One that joins later observes the
    pace of the turns for a second, and states a turn that lies ahead: the others learn of it before it comes. While
    the cache is away nothing changes. A worker that has never reached a cache goes on alone after EXPIRY.
    """

    def __init__(self, client: LookupClient, group: str, worker: str, now: float) -> None:
        self.owners = Owners(worker, {})
        self.worker = worker
        self._client = client
        self._group = group
        self._starts: dict[str, _Start] = {}
        self._unsettled: set[str] = set()  # the starts that are not settled
        self._others = Others(worker)
        self._joined = False
        self._epoch = 0  # of the last settled reply
        self._known = 0  # the epoch whose changes were taken in
        self._sent: float | None = None
        self._heard = now
        self._next = now
        self._tried = now  # the time of the last renewal, sent or not
        self._unsettled_since = now
        self._refused = False
        self._report = Report()
        self._pages: list[Members] = []  # of a reply that has more of them
        self._began: deque[tuple[Owners, dict[str, int]]] = deque(maxlen=_CHANGES)
        self._work: Callable[[], Work] = Work

    @property
    def waits(self) -> bool:
        """Whether the owners of something that was received are not known yet."""
        return not self._joined or bool(self._unsettled)

    def waits_for(self, start: str) -> bool:
        """Return whether the owners of a start are not known yet."""
        known = self._starts.get(start)
        return known is None or not known.settled

    def had_members(self, start: str) -> bool:
        """Return whether the group had members before a start began, as far as this worker knows."""
        return self.first_received(start) == 0 or self._others.began(start)

    def first_received(self, start: str) -> int:
        """Return the first turn of which this worker received a message."""
        return self._starts[start].seen_turn

    def receive(self, start: str, turn: int, now: float) -> None:
        """Note a message of a start; the first one of a start asks the cache for the members."""
        if start in self._starts:
            return
        if not self.waits:
            self._unsettled_since = now
        self._starts[start] = _Start(now, turn, 0 if turn == 0 else None)
        self._unsettled.add(start)
        self._next = now

    def handle(self, turn: Turn) -> None:
        """Note a turn whose events were all handled."""
        if turn.start in self._starts:
            self._starts[turn.start].handle(turn)

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._starts.pop(start, None)
        self._unsettled.discard(start)

    def step(self, now: float, work: Callable[[], Work]) -> Owners | None:
        """Read the reply of the cache, and renew the membership when it is time; return the owners before a change.

        The caller has handled all that the change before has brought.
        """
        self._work = work
        if self._starts and not self.waits:
            self._known = self._epoch
        self._note_shared()
        acted = self._read(now)
        if not acted and self.waits and now - self._unsettled_since >= EXPIRY:
            acted = True
            self._settle(now)
        if now >= self._next:
            acted = True
            self._decide_first(now)
            sent = self._send(now)
            self._next = now + (RENEWAL if sent else _AGAIN)
        return self._rebuild() if acted else None

    def renew(self, now: float) -> None:
        """Renew the membership if the next step is late, as while an event is handled: no owner changes meanwhile."""
        if now >= self._tried + _LATE:
            self._send(now)

    def since(self, start: str, turn: int, actor: str) -> int | None:
        """Return the wall time (ns) since when this worker owns an actor without a break; None if it is unknown."""
        found = None
        for owners, times in reversed(self._began):
            if not owners.share(start, turn).owns(actor):
                break
            found = times.get(start, found)
        begun = self._starts[start].since if start in self._starts else None
        return None if found is None or begun is None else max(found, begun)

    def leave(self) -> None:
        """End the membership at once, so that others need not wait for its expiry."""
        self._client.timeout = _TIMEOUT
        with suppress(DnstrailError, msgspec.ValidationError):
            if not all(start.shared for start in self._starts.values()):
                self._look_for_expected()
        with suppress(DnstrailError):
            self._client.request("join", **self._fields(), leave=True)
        self._client.close()

    def _look_for_expected(self) -> None:
        """Renew the membership, to learn whether the members that are expected have meanwhile reported their starts."""
        for _ in range(_MOST_PAGES):
            if self._take(self._client.request("join", **self._fields()), self._heard):
                break
        if self._rebuild() is None:  # else something is left behind that this worker has not handled
            self._note_shared()

    def _fields(self) -> dict[str, object]:
        progress = {
            name: Progress(name, one.first, one.handled, _published(one.turn), one.turn.now if one.turn else 0)
            for name, one in self._starts.items()
        }
        request = {
            "group": self._group,
            "worker": self.worker,
            "epoch": self._known,
            **self._report.fields(progress),
            "work": self._work(),
        }
        fields: dict[str, object] = msgspec.to_builtins(request)
        return fields

    def _send(self, now: float) -> bool:
        """Send a renewal, and return whether it was sent."""
        self._tried = now
        sent = False
        with suppress(Unavailable):  # this process must not believe the folder of the socket
            sent = self._client.send("join", **self._fields())
        self._sent = now if sent else None
        return sent

    def _read(self, now: float) -> bool:
        """Take the reply to the last request; return whether there was one."""
        asked = self._sent
        if asked is None:
            return False
        try:
            reply = self._client.reply()
            if reply is None:
                return False
            if not self._take(reply, now):
                self._sent, self._next = None, now
                return False
        except (LookupRefused, msgspec.ValidationError) as error:  # no room, or a cache of an earlier version
            self._refuse(error)
        self._heard = now
        self._settle(asked)
        self._sent = None
        return True

    def _take(self, reply: dict[str, Any], now: float) -> bool:
        """Take a reply in; return False if another request has to follow: there is more, or the cache needs more."""
        page = msgspec.convert(reply.get("data"), Members)
        self._report.take(page)
        if page.again:
            self._pages = []
            return False
        self._pages.append(page)
        if not page.more:
            pages, self._pages = self._pages, []
            self._learn(pages, now)
        return not page.more

    def _learn(self, pages: list[Members], now: float) -> None:
        reply = pages[-1]
        self._refused = False
        if reply.settled:
            self._epoch = reply.epoch
        before = self._others.living
        self._others.learn(pages, now, begun=any(start.shared for start in self._starts.values()))
        if before != (after := self._others.living) or not self._joined:
            structlog.get_logger().info("members", epoch=reply.epoch, others=len(after), before=len(before))

    def _refuse(self, error: Exception) -> None:
        if not self._refused:
            structlog.get_logger().error("join_refused", error=str(error), members=len(self._others.members))
        self._refused = True
        self._report, self._pages = Report(), []
        self._others.lose()

    def _settle(self, asked: float) -> None:
        """Note that the members are known of all starts that were received before the cache was asked."""
        self._joined = True
        for name in [*self._unsettled]:
            start = self._starts[name]
            if start.seen <= asked:
                start.settled, start.expected = True, self._others.living
                self._unsettled.discard(name)

    def _decide_first(self, now: float) -> None:
        """Decide from which turn this worker handles its share of the starts that it received in their middle."""
        for start in self._starts.values():
            passed = now - start.seen
            if start.first is None and passed >= RENEWAL and start.turn:
                ahead = math.ceil(2 * RENEWAL * (start.last - start.seen_turn) / passed)
                start.first = start.last + max(ahead, _AHEAD) + 1

    def _rebuild(self) -> Owners | None:
        """Compute the owners; return those before if they have changed."""
        spans = {name: self._spans(name, start) for name, start in self._starts.items() if start.settled}
        before = self.owners
        if spans == before.spans:
            return None
        self.owners = Owners(self.worker, spans)
        times = {name: _wall_time(start.turn) for name, start in self._starts.items() if start.turn}
        self._began.append((self.owners, times))
        return before

    def _spans(self, name: str, start: _Start) -> dict[str, Span]:
        own = {} if start.first is None else {self.worker: Span(start.first)}
        return own | self._others.spans(name, self._expected(start))

    def _expected(self, start: _Start) -> frozenset[str]:
        """Return the members that count as handling a start although they have reported nothing of it."""
        return start.expected if self._heard - start.seen < EXPIRY else frozenset()

    def _note_shared(self) -> None:
        """Note the starts of which nobody is expected any more; the caller has handled what they left behind."""
        for name, start in self._starts.items():
            if start.settled and not start.shared:
                start.shared = not self._others.expects(name, self._expected(start))


def _wall_time(turn: Turn) -> int:
    """Return the wall time of the end of a turn, in ns."""
    return turn.now + turn.difference


def _published(turn: Turn | None) -> int:
    return sum((turn.published or {}).values()) if turn else 0
