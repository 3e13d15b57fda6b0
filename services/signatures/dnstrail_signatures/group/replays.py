"""The turns that a worker may have to handle after a change of owners: those it holds, and those its probes replay."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dnstrail.bus import Bus, Requester
from dnstrail.protocol.catch_up import PATIENCE
from dnstrail.protocol.replays import Replay, ReplayingProbes, ReplayRequest

#: seconds for which a signature worker keeps batches for a takeover -> later owners ask the probe for them
KEPT = 10.0
MAX_BYTES = 32 << 20  #: bytes of the batches that a signature worker keeps -> the oldest is dropped: `buffer_overflow`
_OVERHEAD = 256  # bytes of an entry besides its body
_LOOK = 0.02  # seconds between two looks for the reply
#: seconds for all replies of one probe after a change of owners -> the worker goes on without: `handover_lost_turns`
MOST_WAIT = 30.0


class Received(NamedTuple):
    """A batch as it was received, at a monotonic time."""

    at: float
    topic: str
    start: str
    turn: int
    body: bytes


class RecentBatches:
    """The batches that were received last, in their order; bounded in time and in bytes.

    `counters` has `buffer_overflow`: batches that were dropped for their bytes, before their time.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._batches: deque[Received] = deque()
        self._bytes = 0
        self._first: dict[str, int] = {}  # by start: the first turn that is held whole

    def __iter__(self) -> Iterator[Received]:
        return iter([*self._batches])

    def add(self, received: Received) -> None:
        """Add a batch, and drop those that are too old or too much."""
        self.begin(received.start, received.turn)
        self._batches.append(received)
        self._bytes += _size(received)
        self.expire(received.at)
        while self._bytes > MAX_BYTES:
            self.counters["buffer_overflow"] += 1
            self._drop()

    def clear(self) -> None:
        """Drop all batches: they were handled for another group."""
        self._batches.clear()
        self._bytes = 0
        self._first.clear()

    def begin(self, start: str, turn: int) -> None:
        """Note the first turn of a start that is received."""
        self._first.setdefault(start, turn)

    def forget(self, start: str) -> None:
        """Drop what is held of a start that is followed no more."""
        self._first.pop(start, None)
        self._batches = deque(each for each in self._batches if each.start != start)
        self._bytes = sum(map(_size, self._batches))

    def expire(self, now: float) -> None:
        """Drop the batches that are too old."""
        while self._batches and self._batches[0].at <= now - KEPT:
            self._drop()

    def first(self, start: str) -> int:
        """Return the first turn of a start that is held."""
        return self._first.get(start, 0)

    def _drop(self) -> None:
        dropped = self._batches.popleft()
        self._bytes -= _size(dropped)
        if dropped.start in self._first:
            self._first[dropped.start] = dropped.turn + 1


def _size(received: Received) -> int:
    return len(received.body) + _OVERHEAD


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
    """The turns that probes replay to this worker, which waits for them within bounds.

    A probe whose replies took MOST_WAIT together since `begin`, or of which one did not come, is asked for nothing
    further. Nothing waits once `stop` is set.
    """

    def __init__(
        self,
        bus: Bus,
        sources: Sequence[Requester],
        pause: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._bus = bus
        self._probes = ReplayingProbes(sources)
        self._pause = pause  # is called while a reply is awaited
        self._stop = stop or threading.Event()
        self._waited = defaultdict[Requester, float](float)

    @property
    def stopped(self) -> bool:
        """Whether nothing waits for a reply any more: the probes may have been asked for nothing."""
        return self._stop.is_set()

    def begin(self) -> None:
        """Begin with the gaps of a change of owners."""
        self._waited.clear()

    def ask_ahead(self, gaps: Sequence[Gap]) -> None:
        """Ask for the first turns of some gaps at once, so that their replies come while earlier ones are handled."""
        for gap in gaps:
            for source in self._sources_of(gap.start):
                self._probes.ask_ahead(source, ReplayRequest(gap.start, gap.after))

    def turns(self, gap: Gap) -> Iterator[tuple[str, bytes]]:
        """Yield the messages of the turns of a gap, and of later turns, as far as a probe has them."""
        after = gap.after
        for source in self._sources_of(gap.start):
            while after < gap.until and (replay := self._reply_of(source, ReplayRequest(gap.start, after))) is not None:
                if not replay.messages or replay.last <= after:
                    break
                yield from replay.messages
                after = replay.last

    def _sources_of(self, start: str) -> list[Requester]:
        return [source for source in self._probes.of(start) if self._waited[source] < MOST_WAIT]

    def _reply_of(self, source: Requester, request: ReplayRequest) -> Replay | None:
        """Await the reply of a probe to a request; return None if it does not come."""
        replay, began = None, time.monotonic()
        deadline = began + min(PATIENCE, MOST_WAIT - self._waited[source])
        while replay is None and time.monotonic() < deadline and not self._stop.is_set():
            self._pause()
            replay = self._probes.ask(source, request)
            if replay is None:
                self._bus.wait(source, timeout=_LOOK)
        self._waited[source] += MOST_WAIT if replay is None else time.monotonic() - began
        return replay
