"""The starts and turns that a subscriber follows: what it received, and what was lost (docs/inside/architecture.md)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from dnstrail.bus.remote_host import key_of
from dnstrail.events import REFUSED_EVENTS
from dnstrail.log_pause import LogPause
from dnstrail.protocol.batches import MOST_COUNT, TURN, Batch, Count, Mark, Turn

_REMEMBERED_GAPS = 4096  # broken turns of one start; older ones count as broken
#: turns of a mark ahead of those received -> `complete` is false at once
_FAR_AHEAD = 10_000  # no subscriber that is so far behind catches up while a lookup waits
#: seconds of the silence of a start after which it may give way -> a start that was heard since never gives way
VANISHED = 10.0
_LONGEST = 2.0  # seconds between two messages: a subscriber that stood still longer knows nothing of the rest


class Position(msgspec.Struct, frozen=True):
    """How far a subscriber has received a start: to the end of the turn `ended`, and a part of the next turn.

    `next` holds the sequence of the next batch by topic, and `before` the number of events so far. `over` states that
    nothing more is expected: the source has ended, or its silence was counted.
    """

    ended: Count
    next: dict[str, Count]
    before: dict[str, Count]
    over: bool = False


class _Start:
    """The batches and turns of one start of a probe that a subscriber received."""

    __slots__ = ("before", "broken", "counted", "ended", "first", "last", "missed", "next", "unheard")

    def __init__(self) -> None:
        self.first: int | None = None  # the first turn that was received from its beginning
        self.ended = -1  # the last turn whose end was received
        self.next: dict[str, int] = {}  # by topic: the sequence of the next batch
        self.before: dict[str, int] = {}  # by topic: the number of events so far, including lost ones
        self.unheard: dict[str, int] = {}  # by topic: the events before its first message, until a turn ends
        self.missed = 0  # events that were lost on the bus
        self.broken: OrderedDict[int, None] = OrderedDict()  # turns of which something was lost, newest last
        self.last: Turn | None = None
        self.counted: Turn | None = None  # the same, if nothing has arrived since


class TurnFollower:
    """Follows the turns of all probes for a subscriber to some topics, and counts what was lost on the bus.

    A turn is reached only if everything of it was received, in every topic: after a loss it is never reached. `lost`
    counts events by topic, and `turn` messages. If a probe does not count its events, each lost batch counts as one
    event. Memory is bounded, however much is lost: `FollowedStarts` bounds the starts, and those beyond are forgotten.

    `live` states that the source of one of the remembered starts is live. `received` counts batches and turns: what is
    reached changes only with it. `awaits_starts` states that turns of an unknown start may be on their way, as after a
    restart of the subscriber: such a turn is not reached yet. `gone` are starts of which nothing more is expected.
    `own` is the start under which the subscriber itself publishes facts: it has what they state.
    """

    def __init__(self, topics: tuple[str, ...]) -> None:
        self._topics = topics
        self._starts: dict[str, _Start] = {}
        self.lost: Counter[str] = Counter()
        self.live = False
        self.received = 0
        self.awaits_starts = False
        self.gone: frozenset[str] = frozenset()
        self.own = ""

    def forget(self, start: str) -> None:
        """Forget a start that gave way to another one."""
        if self._starts.pop(start, None) is not None:
            self._note_live()

    def knows(self, start: str) -> bool:
        """Return whether anything of a start was received, and is remembered."""
        return start in self._starts

    def last(self, start: str) -> Turn | None:
        """Return the last turn of a start that was received to its end, None without any."""
        known = self._starts.get(start)
        return None if known is None else known.last

    def batch(self, topic: str, batch: Batch) -> None:
        """Note a batch that was received."""
        start = self._start(batch.start)
        start.counted = None
        expected = start.next.get(topic)
        # Before the first end of a turn, the subscription to another topic may not be in effect yet.
        self._count(start, batch.before, self._topics if start.first is not None else (topic,))
        if expected is not None and batch.sequence > expected:
            self._break(start, batch.turn)
            self._lose(start, topic, 0 if batch.before is not None else batch.sequence - expected)
        if expected is None and batch.sequence > 0:
            self._break(start, batch.turn)  # subscribed in the middle of a turn: earlier batches are unknown
        start.next[topic] = batch.sequence + 1
        if topic in start.before:
            start.before[topic] += len(batch.events)

    def turn(self, turn: Turn, *, from_start: bool = False) -> None:
        """Note the end of a turn.

        `from_start`: all events of the start were to be received. Those before its first message then count as lost.
        """
        start = self._start(turn.start)
        if start.first is None:
            self._join(start, turn)
        elif turn.turn > start.ended + 1:
            self.lost[TURN] += turn.turn - start.ended - 1
            start.first = max(start.first, turn.turn - _REMEMBERED_GAPS)
            for missed in range(max(start.ended + 1, turn.turn - _REMEMBERED_GAPS), turn.turn):
                self._break(start, missed)
        if not _adds_nothing(start, turn):
            self._count_turn(start, turn)
        start.ended = max(start.ended, turn.turn)
        for topic, events in start.unheard.items():
            self._lose(start, topic, events if from_start else 0)
        start.unheard = {}
        start.last = start.counted = turn
        if turn.live != self.live:
            self._note_live()

    def reached(self, mark: Mark) -> bool | None:
        """Return whether all of a turn was received: True, None (not yet), or False (never, or not for long)."""
        start = self._starts.get(mark[0])
        if start is None:
            return True if mark[0] == self.own else None if self.awaits_starts else False
        if mark[1] in start.broken or mark[1] > start.ended + _FAR_AHEAD:
            return False
        if start.first is not None and mark[1] < start.first:
            return False
        if mark[1] <= start.ended:
            return True
        return False if mark[0] in self.gone else None

    def follow(self, topics: tuple[str, ...]) -> None:
        """Follow other topics: those of a start count from the end of its turn at hand, when they are in effect."""
        self._topics = topics
        for start in self._starts.values():
            start.first = start.counted = None
            for topic in start.before.keys() - {*topics}:
                del start.before[topic]

    def positions(self) -> dict[str, Position]:
        """Return how far each start is received, or counted as lost: to be resumed."""
        return {
            name: Position(start.ended, _countable(start.next), _countable(start.before))
            for name, start in self._starts.items()
            if start.ended >= 0
        }

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on after a restart: messages after a position are expected, and counted as lost if they are missing."""
        for name, position in positions.items():
            start = self._start(name)
            start.first, start.ended = position.ended + 1, position.ended
            start.next.update(position.next)
            start.before.update(position.before)

    def missed(self, start: str) -> int:
        """Return the number of events of a start that were lost on the bus."""
        return self._starts[start].missed if start in self._starts else 0

    @property
    def lost_events(self) -> int:
        """The number of events that were lost: the end of a turn that was lost may have none before it."""
        return self.lost.total() - self.lost[TURN]

    def last_turn(self, start: str) -> Turn | None:
        """Return the last turn of a start; None before its first turn."""
        known = self._starts.get(start)
        return known.last if known else None

    def difference(self, start: str) -> int:
        """Return wall time minus the clock of a start in ns, as its last turn states it; 0 before its first turn."""
        last = self.last_turn(start)
        return last.difference if last else 0

    @property
    def probes(self) -> list[Turn]:
        """The last turn of every probe start."""
        return [start.last for start in self._starts.values() if start.last]

    def _note_live(self) -> None:
        self.live = any(probe.live for probe in self.probes)

    def _start(self, name: str) -> _Start:
        """Return a start of which something is received just now."""
        self.received += 1
        start = self._starts.get(name)
        if start is None:
            start = self._starts[name] = _Start()
        return start

    def _join(self, start: _Start, turn: Turn) -> None:
        """Note the first end of a turn: the turn counts as received if all of its batches were, from the first one."""
        start.ended = turn.turn - 1
        whole = all(start.next.get(topic, 0) == turn.last.get(topic, -1) + 1 for topic in self._topics)
        start.first = turn.turn if whole and turn.turn not in start.broken else turn.turn + 1
        start.next.update((topic, turn.last.get(topic, -1) + 1) for topic in self._topics)

    def _count_turn(self, start: _Start, turn: Turn) -> None:
        """Count as lost what was published until the end of a turn, and was not received."""
        self._count(start, turn.published, self._topics)
        for topic in self._topics:
            missing = turn.last.get(topic, -1) + 1 - start.next.get(topic, 0)
            if missing > 0:
                self._break(start, turn.turn)
                self._lose(start, topic, 0 if turn.published is not None else missing)
            start.next[topic] = max(turn.last.get(topic, -1) + 1, start.next.get(topic, 0))

    def _count(self, start: _Start, published: Mapping[str, int] | None, topics: Iterable[str]) -> None:
        """Count as lost the published events that were not received; a first count of a start is only noted."""
        if published is None:
            return
        for topic in topics:
            before, now = start.before.get(topic), published.get(topic, 0)
            if before is None and start.last is None:
                start.unheard[topic] = now
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
        while len(start.broken) > _REMEMBERED_GAPS:  # all turns up to an evicted one count as lost
            evicted, _ = start.broken.popitem(last=False)
            start.first = max(start.first or 0, evicted + 1)


def _countable(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts of which each can be read again: what follows the greatest number of a host is none."""
    return {topic: min(count, MOST_COUNT) for topic, count in counts.items()}


def _adds_nothing(start: _Start, turn: Turn) -> bool:
    """Return whether a turn states the same numbers as the one before it, and nothing came between: it is idle."""
    before = start.counted
    return before is not None and turn.last == before.last and turn.published == before.published


class FollowedStarts:
    """The starts that a subscriber follows, at most `most` of them.

    Beyond this number a new start takes the place of one that has ended, else of one that has vanished, the oldest
    first: `forget` receives it. Without such a start, the host with most starts gives up the one that is silent for
    longest, unless the new start is of a host that would have as many. Else the new one is refused. It is named in the
    log. `counters` counts such starts (`probes_refused`), and the events that they publish (`refused_events`).
    """

    def __init__(self, most: int, forget: Callable[[str], None], counters: Counter[str]) -> None:
        self._most = most
        self._forget = forget
        self._counters = counters
        self._heard: OrderedDict[str, float] = OrderedDict()  # when each was heard; the one silent for longest first
        self._of_key: Counter[str] = Counter()  # how many of them are of the key of a host
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._time = 0.0  # seconds in which this subscriber did not stand still
        self._looked = 0.0
        self._pause = LogPause()

    def follow(self, message: Batch | Turn, now: float) -> bool:
        """Return whether the start of a message is followed; `now` is monotonic, in seconds."""
        self._time += min(max(now - self._looked, 0.0), _LONGEST)
        self._looked = now
        start = message.start
        if start not in self._heard:
            if not self._has_room(key_of(start)):
                self._refuse(message, now)
                return False
            self._of_key[key_of(start)] += 1
        self._heard[start] = self._time
        self._heard.move_to_end(start)
        if isinstance(message, Turn) and message.ended:
            self._ended[start] = None
        return True

    def resume(self, starts: Mapping[str, bool]) -> list[str]:
        """Follow the starts of an earlier run, each with whether it is over; return those for which there is room."""
        kept = sorted(starts, key=starts.__getitem__)[: self._most]
        for start in kept:
            self._heard[start] = self._time
            self._of_key[key_of(start)] += 1
            if starts[start]:
                self._ended[start] = None
        return kept

    def _has_room(self, key: str) -> bool:
        """Make room for one more start of a key, if there is none; return whether there is some."""
        if len(self._heard) < self._most:
            return True
        oldest = next(iter(self._ended), None)
        if oldest is None:
            oldest, heard = next(iter(self._heard.items()))
            if self._time - heard < VANISHED:
                oldest = self._of_most(key)
        if oldest is None:
            return False
        del self._heard[oldest]
        self._of_key -= Counter([key_of(oldest)])
        self._ended.pop(oldest, None)
        self._forget(oldest)
        return True

    def _of_most(self, key: str) -> str | None:
        """Return the start, silent for longest, of the key with most: more than `key` has with one more; None else."""
        most = max(self._of_key, key=self._of_key.__getitem__, default=key)
        if self._of_key[most] <= self._of_key[key] + 1:
            return None
        return next(start for start in self._heard if key_of(start) == most)

    def _refuse(self, message: Batch | Turn, now: float) -> None:
        if isinstance(message, Batch):
            self._counters[REFUSED_EVENTS] += len(message.events)
        if message.start not in self._refused:
            self._counters["probes_refused"] += 1
        self._refused[message.start] = None
        self._refused.move_to_end(message.start)
        if len(self._refused) > self._most:
            self._refused.popitem(last=False)
        if self._pause.note(now):
            counted = {name: self._counters[name] for name in ("probes_refused", REFUSED_EVENTS)}
            structlog.get_logger().warning(
                "probe_refused", start=message.start, host=message.host, followed=self._most, **counted
            )
