"""Coverage: which part of what a probe saw in the last seconds has reached this worker (DESIGN 3)."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from dnstrail.protocol.batches import Turn

WINDOW = 10_000_000_000  # ns of the probe's own clock
MOST_PROBES = 64
_STEP = WINDOW // 100  # turns that end within it count as one


@dataclass(slots=True)
class Counts:
    """Events: received here and missed on the way; published by the probe, of all names, and lost before that."""

    received: int = 0
    missed: int = 0
    published: int = 0
    lost: int = 0

    @property
    def coverage(self) -> float:
        """The part that came through; 1 where nothing was lost.

        Of a worker that takes all events: received / (received + missed + lost). One that takes some of them counts
        what was lost at the probe, whose names nobody knows, in its proportion.
        """
        on_the_way = _part(self.received, self.missed)
        return on_the_way * _part(max(self.published, self.received + self.missed), self.lost)

    def add(self, other: Counts, sign: int = 1) -> None:
        """Add what another has counted, or take it away."""
        self.received += sign * other.received
        self.missed += sign * other.missed
        self.published += sign * other.published
        self.lost += sign * other.lost


class _Probe:
    """What is known of one start of a probe: since when which counts, all of them together, and those of now."""

    def __init__(self) -> None:
        self.known: Turn | None = None  # the last turn
        self.missed = 0  # so far
        self.open = Counts()  # since then
        self.steps: deque[tuple[int, Counts]] = deque()
        self.sum = Counts()

    def note_missed(self, missed: int) -> None:
        self.open.missed += max(missed - self.missed, 0)
        self.missed = max(missed, self.missed)

    def end_turn(self, turn: Turn) -> None:
        if self.known is not None:
            self.open.published = max(_published(turn) - _published(self.known), 0)
            self.open.lost = max(_losses(turn) - _losses(self.known), 0)
        self.known = turn
        self._close(turn.now)
        self.open = Counts()

    def _close(self, now: int) -> None:
        """Count what was open as of `now`; let go of what is too long ago."""
        if self.steps and now < self.steps[-1][0]:  # the clock was set back: what was before is as of now
            self.steps = deque([(now, replace(self.sum))])
        if not self.steps or now - self.steps[-1][0] >= _STEP:
            self.steps.append((now, Counts()))
        self.steps[-1][1].add(self.open)
        self.sum.add(self.open)
        while self.steps[0][0] <= now - WINDOW:
            self.sum.add(self.steps.popleft()[1], -1)


class Coverage:
    """The coverage of each probe, as of its last turn and what has come since; bounded in probes and in time.

    `missed` is how many events of that start were lost on the way so far (`Turns.missed`).
    """

    def __init__(self) -> None:
        self._probes: OrderedDict[str, _Probe] = OrderedDict()  # those that spoke last come last

    def __len__(self) -> int:
        return len(self._probes)

    def batch(self, start: str, received: int, missed: int) -> None:
        """Note events that came."""
        probe = self._probe(start)
        probe.note_missed(missed)
        probe.open.received += received

    def turn(self, turn: Turn, missed: int) -> None:
        """Note the end of a turn: it tells the time, and what the probe itself has lost."""
        probe = self._probe(turn.start)
        probe.note_missed(missed)
        probe.end_turn(turn)

    def of(self, start: str) -> float | None:
        """The coverage of a probe; None before its first turn was heard: nothing is known of it."""
        probe = self._probes.get(start)
        if probe is None or probe.known is None:
            return None
        together = replace(probe.sum)
        together.add(probe.open)
        return together.coverage

    def _probe(self, start: str) -> _Probe:
        probe = self._probes.setdefault(start, _Probe())
        self._probes.move_to_end(start)
        if len(self._probes) > MOST_PROBES:
            self._probes.popitem(last=False)
        return probe


def _part(some: int, others: int) -> float:
    return some / (some + others) if others else 1.0


def _published(turn: Turn) -> int:
    return sum((turn.published or {}).values())


def _losses(turn: Turn) -> int:
    return sum(sum(reasons.values()) for reasons in turn.lost.values())
