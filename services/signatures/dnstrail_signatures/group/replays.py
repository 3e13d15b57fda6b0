"""The turns that a worker has to handle after a change of owners and holds no more: its probes replay them."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

from dnstrail.bus import Bus, Requester
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.catch_up import PATIENCE
from dnstrail.protocol.keyed_replays import replay_of, sources_of
from dnstrail.protocol.replays import Replay, ReplayRequest, encode_replay
from dnstrail_signatures.group.recent import RecentBatches

_LOOK = 0.02  # seconds between two looks for the reply
#: seconds for all replies of one probe after a change of owners -> the worker goes on without: `handover_lost_turns`
MOST_WAIT = 30.0
_AHEAD = 16  # gaps: each reply has about a MiB


class Gap(NamedTuple):
    """The turns of a start between the last one of departed members and the first one that this worker holds.

    Those after `counted` are lost if no probe replays them. `partial`: of that first one a part may have been missed.
    """

    start: str
    after: int
    until: int
    counted: int
    partial: bool = False


class Replays:
    """The probes, which replay the last turns of their starts. Nothing that they send raises an error.

    A probe that has named its start is asked for another one only if no probe is left that may have it. One whose
    replies took MOST_WAIT together since `begin`, or of which one did not come, is asked for nothing further. Nothing
    waits once `stop` is set.
    """

    def __init__(
        self,
        bus: Bus,
        sources: Sequence[Requester],
        pause: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._bus = bus
        self._sources = sources
        self._pause = pause  # is called while a reply is awaited
        self._stop = stop or threading.Event()
        self._named: dict[Requester, str] = {}  # the starts that probes of this host have named
        self._ahead: dict[Requester, ReplayRequest] = {}  # that were sent already
        self._waited = defaultdict[Requester, float](float)

    @property
    def stopped(self) -> bool:
        """Whether nothing waits for a reply any more."""
        return self._stop.is_set()

    def begin(self) -> None:
        """Begin with the gaps of a change of owners."""
        self._waited.clear()

    def ask_ahead(self, gaps: Sequence[Gap]) -> None:
        """Ask for the first turns of some gaps at once, so that their replies come while earlier ones are handled."""
        for gap in gaps:
            for source in self._sources_of(gap.start):
                request = ReplayRequest(gap.start, gap.after)
                if source not in self._ahead and source.send(encode_replay(request)):
                    self._ahead[source] = request

    def turns(self, gap: Gap) -> Iterator[tuple[str, bytes]]:
        """Yield the messages of the turns of a gap, and of later turns, as far as a probe has them."""
        after = gap.after
        for source in self._sources_of(gap.start):
            while after < gap.until and (replay := self._ask(source, ReplayRequest(gap.start, after))) is not None:
                if not replay.messages or replay.last <= after:
                    break
                yield from replay.messages
                after = replay.last

    def _sources_of(self, start: str) -> list[Requester]:
        """Return the probe of a start, else those that may have it."""
        sources = [source for source in sources_of(start, self._sources) if self._waited[source] < MOST_WAIT]
        return [source for source in sources if self._named.get(source, start) == start] or sources

    def _ask(self, source: Requester, request: ReplayRequest) -> Replay | None:
        began = time.monotonic()
        reply = self._reply_of(source, request, began + min(PATIENCE, MOST_WAIT - self._waited[source]))
        self._waited[source] += MOST_WAIT if reply is None else time.monotonic() - began
        try:
            replay = None if reply is None else replay_of(source, request.start, reply)
        except BadMessage:
            return None
        if replay is not None and replay.start:
            self._named[source] = replay.start
        return replay

    def _reply_of(self, source: Requester, request: ReplayRequest, deadline: float) -> bytes | None:
        sent = self._ahead.pop(source, None) == request or source.send(encode_replay(request))
        while time.monotonic() < deadline and not self._stop.is_set():
            self._pause()
            sent = sent or source.send(encode_replay(request))
            if sent and (reply := source.reply()) is not None:
                return reply
            self._bus.wait(source, timeout=_LOOK)
        return None


class MissedTurns:
    """What others left behind, and this worker did not receive or holds no more.

    `lost` counts the turns that no probe replays any more.
    """

    def __init__(self, replays: Replays | None) -> None:
        self.lost = 0
        self._replays = replays

    @property
    def stopped(self) -> bool:
        """Whether the worker is to end, and the probes may have been asked for nothing."""
        return self._replays is not None and self._replays.stopped

    def take(self, gaps: Sequence[Gap], recent: RecentBatches, topics: Container[str]) -> Iterator[tuple[str, Batch]]:
        """Yield the batches of these topics in some gaps, in their order."""
        if self._replays:
            self._replays.begin()
        for number, gap in enumerate(gaps):
            if self._replays:
                self._replays.ask_ahead(gaps[number : number + _AHEAD])
            lost = max(gap.until - gap.counted - 1, 0)
            for topic, body in self._replays.turns(gap) if self._replays else ():
                if topic == TURN:
                    lost -= gap.counted < _turn(body) < gap.until
                elif topic in topics and (batch := _missed(gap, body, recent)) is not None:
                    yield topic, batch
            self.lost += lost


def _turn(body: bytes) -> int:
    """Return the number of a turn; -1 if it is damaged."""
    try:
        return decode(body, Turn).turn
    except BadMessage:
        return -1


def _missed(gap: Gap, body: bytes, recent: RecentBatches) -> Batch | None:
    """Return a batch that lies in the gap, or in a partial turn after it, unless it is held; else None."""
    try:
        batch = decode(body, Batch)
    except BadMessage:
        return None
    if not gap.after < batch.turn < gap.until + gap.partial:
        return None
    return batch if batch.turn < gap.until - 1 or all(each.body != body for each in recent) else None
