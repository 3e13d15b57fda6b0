"""Batches and turns: how events travel, and how a subscriber knows what it has seen and what it missed (DESIGN 3)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

from dnstrail.protocol.batches import TURN, Batch, Mark, Turn

_REMEMBERED_GAPS = 4096
_REMEMBERED_STARTS = 64


class _Start:
    """What one subscriber has seen of one start of a probe."""

    __slots__ = ("before", "broken", "ended", "first", "last", "missed", "next")

    def __init__(self) -> None:
        self.first: int | None = None  # the first turn that was surely seen from its beginning
        self.ended = -1  # the last turn whose end was seen
        self.next: dict[str, int] = {}  # by topic: the sequence that has to come next
        self.before: dict[str, int] = {}  # by topic: how many events there were so far, lost ones among them
        self.missed = 0  # events lost on the way
        self.broken: OrderedDict[int, None] = OrderedDict()  # turns in which something was lost, newest last
        self.last: Turn | None = None


class TurnFollower:
    """Follows the turns of all probes for a subscriber to some topics; counts what was lost on the way.

    `lost` counts events by topic (of a probe that does not number them one a batch, the least that it can be), and
    `turn` messages; memory is bounded however many probes come and go.
    """

    def __init__(self, topics: tuple[str, ...]) -> None:
        self._topics = topics
        self._starts: OrderedDict[str, _Start] = OrderedDict()
        self.lost: Counter[str] = Counter()

    def batch(self, topic: str, batch: Batch) -> None:
        """Note a batch that came."""
        start = self._start(batch.start)
        expected = start.next.get(topic)
        # Before the first end of a turn another topic may not be subscribed to as yet.
        self._count(start, batch.before, self._topics if start.first is not None else (topic,))
        if expected is not None and batch.sequence > expected:
            self._break(start, batch.turn)
            self._lose(start, topic, 0 if batch.before is not None else batch.sequence - expected)
        if expected is None and batch.sequence > 0:
            self._break(start, batch.turn)  # joined on the way: what came before is unknown
        start.next[topic] = batch.sequence + 1
        if topic in start.before:
            start.before[topic] += len(batch.events)

    def turn(self, turn: Turn) -> None:
        """Note that a turn has ended."""
        start = self._start(turn.start)
        if start.first is None:
            self._join(start, turn)
        elif turn.turn > start.ended + 1:
            self.lost[TURN] += turn.turn - start.ended - 1
            start.first = max(start.first, turn.turn - _REMEMBERED_GAPS)
            for missed in range(max(start.ended + 1, turn.turn - _REMEMBERED_GAPS), turn.turn):
                self._break(start, missed)
        self._count(start, turn.published, self._topics)
        for topic in self._topics:
            missing = turn.last.get(topic, -1) + 1 - start.next.get(topic, 0)
            if missing > 0:
                self._break(start, turn.turn)
                self._lose(start, topic, 0 if turn.published is not None else missing)
            start.next[topic] = max(turn.last.get(topic, -1) + 1, start.next.get(topic, 0))
        start.ended = max(start.ended, turn.turn)
        start.last = turn

    def reached(self, mark: Mark) -> bool | None:
        """Whether all of a turn was seen: True, False (lost, or never to be known), or None (not yet)."""
        start = self._starts.get(mark[0])
        if start is None or mark[1] in start.broken or (start.first is not None and mark[1] < start.first):
            return False
        return True if mark[1] <= start.ended else None

    def missed(self, start: str) -> int:
        """How many events of a start of a probe were lost on the way."""
        return self._starts[start].missed if start in self._starts else 0

    @property
    def probes(self) -> list[Turn]:
        """The last turn of every probe start."""
        return [start.last for start in self._starts.values() if start.last]

    def _start(self, name: str) -> _Start:
        start = self._starts.get(name)
        if start is None:
            start = self._starts[name] = _Start()
            while len(self._starts) > _REMEMBERED_STARTS:
                self._starts.popitem(last=False)
        else:
            self._starts.move_to_end(name)
        return start

    def _join(self, start: _Start, turn: Turn) -> None:
        """The first end of a turn that was seen: the turn counts as seen if all its batches were, from the first."""
        start.ended = turn.turn - 1
        whole = all(start.next.get(topic, 0) == turn.last.get(topic, -1) + 1 for topic in self._topics)
        start.first = turn.turn if whole and turn.turn not in start.broken else turn.turn + 1
        start.next.update((topic, turn.last.get(topic, -1) + 1) for topic in self._topics)

    def _count(self, start: _Start, published: Mapping[str, int] | None, topics: Iterable[str]) -> None:
        """Between what came and what was published lies what was lost; before the first word of it nothing is known."""
        if published is None:
            return
        for topic in topics:
            before, now = start.before.get(topic), published.get(topic, 0)
            self._lose(start, topic, 0 if before is None else max(now - before, 0))
            start.before[topic] = max(now, before or 0)

    def _lose(self, start: _Start, topic: str, events: int) -> None:
        if events:
            self.lost[topic] += events
            start.missed += events

    @staticmethod
    def _break(start: _Start, turn: int) -> None:
        start.broken[turn] = None
        start.broken.move_to_end(turn)
        while len(start.broken) > _REMEMBERED_GAPS:  # all up to what is forgotten counts as never to be known
            forgotten, _ = start.broken.popitem(last=False)
            start.first = max(start.first or 0, forgotten + 1)
