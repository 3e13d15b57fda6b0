"""The starts of probes as a worker follows them: their coverage, the times of their events, and their clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from dnstrail.captured import LAST_TIME
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.listener import SILENCE

WINDOW = 10_000_000_000  #: ns that the coverage covers -> older events no longer count
_STEP = WINDOW // 100  # turns that end within one step share its counts
_SECOND = 1_000_000_000


@dataclass(slots=True)
class EventCounts:
    """Numbers of events.

    `received` arrived here, `missed` were lost on the way. The probe published `published` events of all names, and
    `lost` were lost before it could publish them.
    """

    received: int = 0
    missed: int = 0
    published: int = 0
    lost: int = 0

    @property
    def coverage(self) -> float:
        """The part that arrived; exactly 1 if nothing was lost.

        For a worker that subscribes to all events this is received / (received + missed + lost). The names of events
        that were lost at the probe are unknown: a worker that subscribes to some names counts its share of them.
        """
        on_the_way = _part(self.received, self.missed)
        return on_the_way * _part(max(self.published, self.received + self.missed), self.lost)

    def add(self, other: EventCounts, sign: int = 1) -> None:
        """Add the counts of another, or with sign -1 subtract them."""
        self.received += sign * other.received
        self.missed += sign * other.missed
        self.published += sign * other.published
        self.lost += sign * other.lost


class _Probe:
    """One start of a probe.

    `steps` holds the counts of the window by the time at which they began. `open` counts the turn that has not ended
    yet, and `sum` is always the sum of all.
    """

    def __init__(self) -> None:
        self.known: Turn | None = None  # the last turn that ended
        self.missed = self.published = self.lost = 0  # since the start
        self.open = EventCounts()
        self.steps: deque[tuple[int, EventCounts]] = deque()
        self.sum = EventCounts()

    def note(self, received: int, missed: int) -> None:
        """Note events that arrived, and those that were missed since the start."""
        more = max(missed - self.missed, 0)
        self.missed += more
        for counts in (self.open, self.sum):
            counts.received += received
            counts.missed += more

    def end_turn(self, turn: Turn) -> None:
        published, lost = _published(turn), _losses(turn)
        if self.known is not None:
            self.open.published = max(published - self.published, 0)
            self.open.lost = max(lost - self.lost, 0)
            self.sum.published += self.open.published
            self.sum.lost += self.open.lost
        self.known, self.published, self.lost = turn, published, lost
        self._close(turn.now)
        self.open = EventCounts()

    def _close(self, now: int) -> None:
        """Add the open counts to the step of `now`; remove the steps that have left the window."""
        if self.steps and now < self.steps[-1][0]:  # the clock was set back: earlier counts move to now
            self.steps = deque([(now, replace(self.sum))])
        elif self.steps and now - self.steps[-1][0] < _STEP:
            self.steps[-1][1].add(self.open)
        else:
            self.steps.append((now, self.open))
        while self.steps[0][0] <= now - WINDOW:
            self.sum.add(self.steps.popleft()[1], -1)


class ProbeCoverage:
    """The coverage of each probe over the last ten seconds of its own clock.

    Memory is bounded: a hundred steps of each start that is followed. `missed` is the number of events of a start that
    were lost on the way so far (`TurnFollower.missed`).
    """

    def __init__(self) -> None:
        self._probes: dict[str, _Probe] = {}

    def __len__(self) -> int:
        return len(self._probes)

    def batch(self, start: str, received: int, missed: int) -> None:
        """Note the events of a batch."""
        self._probe(start).note(received, missed)

    def turn(self, turn: Turn, missed: int) -> None:
        """Note the end of a turn, which carries the clock and the losses of the probe."""
        probe = self._probe(turn.start)
        probe.note(0, missed)
        probe.end_turn(turn)

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._probes.pop(start, None)

    def of(self, start: str) -> float | None:
        """Return the coverage of a probe, or None before its first turn has ended."""
        probe = self._probes.get(start)
        if probe is None or probe.known is None:
            return None
        return probe.sum.coverage

    @property
    def least(self) -> float | None:
        """The least coverage of all probes that have not ended; None before the first turn of each."""
        running = [start for start, probe in self._probes.items() if probe.known is not None and not probe.known.ended]
        return min((coverage for start in running if (coverage := self.of(start)) is not None), default=None)

    def _probe(self, start: str) -> _Probe:
        probe = self._probes.get(start)
        if probe is None:
            probe = self._probes[start] = _Probe()
        return probe


def _part(arrived: int, lost: int) -> float:
    return arrived / (arrived + lost) if lost else 1.0


def _published(turn: Turn) -> int:
    return sum((turn.published or {}).values())


def _losses(turn: Turn) -> int:
    return sum(sum(reasons.values()) for reasons in turn.lost.values())


class StreamTimes:
    """The greatest time stamp so far of each start of a probe (ns)."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}

    def of(self, start: str, stamps: Iterable[int]) -> list[int]:
        """Return for each of the next stamps the greatest one until then."""
        times = list(accumulate(stamps, max, initial=self._latest.get(start, 0)))
        self._latest[start] = times[-1]
        return times[1:]

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._latest.pop(start, None)


class ProbeClocks:
    """The clock of each live start at its last turn, and when this turn was handled (s, monotonic)."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def turn(self, turn: Turn, now: float) -> int:
        """Note a turn that was handled; return the time of its start: the last time of all at its end."""
        if turn.ended or not turn.live:
            self._last.pop(turn.start, None)
        else:
            self._last[turn.start] = turn.now, now
        return LAST_TIME if turn.ended else turn.now

    def silent(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield the live starts of which nothing was received for a while although nothing waits, and their times."""
        for start, (clock, heard) in self._last.items():
            if now - heard > SILENCE:
                yield start, clock + round((now - heard) * _SECOND)

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._last.pop(start, None)
