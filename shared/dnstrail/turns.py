"""Batches and turns: how events travel, and how a subscriber knows what it has seen and what it missed (DESIGN 3)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Annotated, Any, TypeVar

import msgpack
import msgspec

from dnstrail.errors import BadMessage
from dnstrail.events import Captured

TURN = "turn"
Mark = tuple[str, int]  # (start id of a probe, turn)
_REMEMBERED_GAPS = 4096
_REMEMBERED_STARTS = 64


Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Events of one name: which start of the probe, in which turn, and the how-manieth batch of this name."""

    start: str
    turn: Count
    sequence: Count
    events: list[Captured]


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """The end of a turn, and the heartbeat: the last sequence of each topic so far, and what the probe knows.

    `now` is the clock of the source in ns (of a file: its greatest stamp so far); `ended` says that it has ended.
    """

    start: str
    turn: Count
    last: dict[str, Count]
    live: bool
    now: int
    ended: bool = False
    counters: dict[str, Count] = {}


T = TypeVar("T", Batch, Turn)


def encode(message: Batch | Turn) -> bytes:
    """A batch or a turn as the body of a bus message."""
    return msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))


def decode(body: bytes, kind: type[T]) -> T:
    """The body of a bus message as a batch or a turn.

    Raises:
        BadMessage: it is none.
    """
    try:
        return msgspec.convert(unpack(body), kind)
    except msgspec.ValidationError as error:
        raise BadMessage(f"a bad {kind.__name__.lower()}: {error}") from error


def unpack(body: bytes) -> Any:
    """MessagePack as plain values.

    Raises:
        BadMessage: it is none.
    """
    try:
        return msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:  # its other errors derive from ValueError
        raise BadMessage(f"no MessagePack: {error or type(error).__name__}") from error


class _Start:
    """What one subscriber has seen of one start of a probe."""

    __slots__ = ("broken", "ended", "first", "last", "next")

    def __init__(self) -> None:
        self.first: int | None = None  # the first turn that was surely seen from its beginning
        self.ended = -1  # the last turn whose end was seen
        self.next: dict[str, int] = {}  # by topic: the sequence that has to come next
        self.broken: OrderedDict[int, None] = OrderedDict()  # turns in which something was lost, newest last
        self.last: Turn | None = None


class Turns:
    """Follows the turns of all probes for a subscriber to some topics; counts what was lost on the way.

    `lost` counts batches by topic, and `turn` messages; memory is bounded however many probes come and go.
    """

    def __init__(self, topics: tuple[str, ...]) -> None:
        self._topics = topics
        self._starts: OrderedDict[str, _Start] = OrderedDict()
        self.lost: Counter[str] = Counter()

    def batch(self, topic: str, batch: Batch) -> None:
        """Note a batch that came."""
        start = self._start(batch.start)
        expected = start.next.get(topic)
        if expected is not None and batch.sequence > expected:
            self._lose(start, topic, batch.sequence - expected, batch.turn)
        if expected is None and batch.sequence > 0:
            self._break(start, batch.turn)  # joined on the way: what came before is unknown
        start.next[topic] = batch.sequence + 1

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
        for topic in self._topics:
            missing = turn.last.get(topic, -1) + 1 - start.next.get(topic, 0)
            if missing > 0:
                self._lose(start, topic, missing, turn.turn)
            start.next[topic] = max(turn.last.get(topic, -1) + 1, start.next.get(topic, 0))
        start.ended = max(start.ended, turn.turn)
        start.last = turn

    def reached(self, mark: Mark) -> bool | None:
        """Whether all of a turn was seen: True, False (lost, or never to be known), or None (not yet)."""
        start = self._starts.get(mark[0])
        if start is None or mark[1] in start.broken or (start.first is not None and mark[1] < start.first):
            return False
        return True if mark[1] <= start.ended else None

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

    def _lose(self, start: _Start, topic: str, count: int, turn: int) -> None:
        self.lost[topic] += count
        self._break(start, turn)

    @staticmethod
    def _break(start: _Start, turn: int) -> None:
        start.broken[turn] = None
        start.broken.move_to_end(turn)
        while len(start.broken) > _REMEMBERED_GAPS:  # all up to what is forgotten counts as never to be known
            forgotten, _ = start.broken.popitem(last=False)
            start.first = max(start.first or 0, forgotten + 1)
