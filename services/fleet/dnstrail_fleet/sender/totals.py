"""The rows of a host with their totals, and which of them are due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from dnstrail.history.following import AnswerContent
from dnstrail_fleet.row import DAY, GRACE, MOST_BYTES, MOST_ROWS, AskerRows, FleetRow

#: rows that the sender remembers -> it forgets those of earlier days, then those that were sent earliest: `forgotten`
MOST_KNOWN: Final = 262_144
#: rows that wait to be sent -> the sender reads no further until some are sent
MOST_WAITING: Final = 65_536
AGAIN: Final = 900.0  #: seconds between two entries with the same row
_LONGEST_TEXT: Final = 1024  # characters of a text in a row
_MOST_CONTENTS: Final = 65_536  # whose rows are found without a look at their texts
_SECOND: Final = 1_000_000_000  # ns
_OVERHEAD: Final = 48  # bytes of the numbers of a row, at most; those of its texts are counted
_AHEAD: Final = 30  # seconds: the store accepts a minute
_NEVER: Final = float("-inf")


class RowKey(NamedTuple):
    """Which row it is: an asker, a relation, and the question that led to it."""

    program: str
    container: str
    image: str
    question: str
    owner: str
    type: int
    target: str


class RowTotals:
    """The totals of a row of one day. `waits` states that they changed since they were sent; times are seconds."""

    __slots__ = ("count", "day", "doubted", "end", "first", "gaps", "key", "last", "sent", "waits")

    def __init__(self, key: RowKey, day: int, sent: float = _NEVER) -> None:
        self.key = key
        self.day = day
        self.first = self.last = self.end = 0
        self.count = self.gaps = self.doubted = 0
        self.sent = sent  # when a row of this key was sent last
        self.waits = False

    def add(self, at: int, end: int, doubted: bool) -> None:
        """Add an answer. It is called for each relation of each answer."""
        if not self.count:
            self.first = self.last = at
        elif at > self.last:
            self.gaps += at >= self.end + GRACE
            self.last = at
        elif at < self.first:
            self.gaps += self.first >= end + GRACE
            self.first = at
        if end > self.end:
            self.end = end
        self.count += 1
        if doubted:
            self.doubted += 1

    @property
    def row(self) -> FleetRow:
        """The row as it is sent."""
        _, _, _, question, owner, rdtype, target = self.key
        times = self.first, self.last, self.end, self.count, self.gaps, self.doubted
        known = self.sent != _NEVER
        return FleetRow(question, "" if owner == question else owner, rdtype, target, self.day, *times, known)

    @property
    def size(self) -> int:
        """The bytes of the row in an entry, at most."""
        *texts, owner, _, target = self.key
        return _OVERHEAD + sum(len(text.encode()) for text in {*texts, owner, target})


class RelationTotals:
    """The rows of a host. Invariant: each row that `waits` is in the queue once.

    `changed` holds the rows that are to be stored, and `gone` those that were forgotten since.
    """

    def __init__(self, rows: Iterable[RowTotals] = ()) -> None:
        self.changed: dict[RowTotals, None] = {}
        self.gone: list[RowTotals] = []
        self.left_out = 0  # relations with a text that is too long
        self.forgotten = 0  # rows of a day that goes on: its totals in the store may be too small
        self._forgotten_until = -1  # the last day of which rows were forgotten: a new one may follow a gap
        self._rows: dict[tuple[RowKey, int], RowTotals] = {}
        self._latest: dict[RowKey, RowTotals] = {}
        self._of_content: dict[AnswerContent, tuple[int, list[RowTotals | None]]] = {}
        self._number = count()
        self._queue: list[tuple[float, int, RowTotals]] = []
        for row in rows:
            self._keep(row)
            if row.waits:
                self._queue.append((row.sent + AGAIN, next(self._number), row))
        heapify(self._queue)

    @property
    def waiting(self) -> int:
        """The number of rows that wait to be sent."""
        return len(self._queue)

    def add(self, content: AnswerContent, ended: int, ttls: tuple[int, ...], *, doubted: bool) -> None:
        """Add an answer that came at a time (ns since the epoch), with a TTL (s) for each of its relations."""
        at = ended // _SECOND
        day = at // DAY
        found = self._of_content.get(content)
        if found is None or found[0] != day:
            found = self._of_content[content] = day, [*self._rows_of(content, day)]
        changed, after = self.changed, at + 1  # the end of an answer within a second is that of the next one
        for row, ttl in zip(found[1], ttls, strict=True):
            if row is not None:
                row.add(at, after + ttl, doubted)
                if not row.waits:
                    row.waits = True
                    heappush(self._queue, (row.sent + AGAIN, next(self._number), row))
                changed[row] = None

    def due(self, now: float) -> list[RowTotals]:
        """Take the rows that are due at a time (seconds since the epoch), within the bounds of an entry.

        A row whose last answer is ahead of that time, since the clock was set back, waits for another turn.
        """
        found: list[RowTotals] = []
        size = 0
        while self._queue and self._queue[0][0] <= now and len(found) < MOST_ROWS and size < MOST_BYTES // 2:
            row = heappop(self._queue)[2]
            if row.last > now + _AHEAD:
                heappush(self._queue, (now + AGAIN, next(self._number), row))
                continue
            size += row.size
            found.append(row)
        return found

    def note_sent(self, rows: Iterable[RowTotals], now: float) -> None:
        """Note that rows which were due were sent."""
        for row in rows:
            row.sent, row.waits = now, False
            self.changed[row] = None
        if len(self._rows) > MOST_KNOWN:
            self._forget(int(now) // DAY)

    def put_back(self, rows: Iterable[RowTotals]) -> None:
        """Note that rows which were due were not sent."""
        for row in rows:
            heappush(self._queue, (row.sent + AGAIN, next(self._number), row))

    def note_stored(self) -> None:
        """Note that all rows that changed, or were forgotten, are stored as they are now."""
        self.changed.clear()
        self.gone.clear()

    def _rows_of(self, content: AnswerContent, day: int) -> Iterator[RowTotals | None]:
        if len(self._of_content) > _MOST_CONTENTS:
            self._of_content.clear()
        asker = content.program[:_LONGEST_TEXT], content.container[:_LONGEST_TEXT], content.image[:_LONGEST_TEXT]
        for owner, rdtype, target in content.relations:
            if max(map(len, (content.question, owner, target))) > _LONGEST_TEXT:
                self.left_out += 1
                yield None
                continue
            key = RowKey(*asker, content.question, owner, rdtype, target)
            row = self._rows.get((key, day))
            if row is None:
                earlier = self._latest.get(key)
                row = RowTotals(key, day, _NEVER if earlier is None else earlier.sent)
                row.gaps = int(day <= self._forgotten_until)
                self._keep(row)
            yield row

    def _keep(self, row: RowTotals) -> None:
        self._rows[row.key, row.day] = row
        latest = self._latest.get(row.key)
        if latest is None or latest.day <= row.day:
            self._latest[row.key] = row

    def _forget(self, today: int) -> None:
        """Forget the eighth of the rows that waits for nothing: earlier days first, and what was sent earliest."""
        idle = (row for row in self._rows.values() if not row.waits)
        for row in sorted(idle, key=lambda row: (min(row.day, today), row.sent))[: MOST_KNOWN // 8]:
            self.forgotten += row.day >= today
            self._forgotten_until = max(self._forgotten_until, row.day)
            del self._rows[row.key, row.day]
            if self._latest.get(row.key) is row:
                del self._latest[row.key]
            self.changed.pop(row, None)
            self.gone.append(row)
        self._of_content.clear()


def by_asker(rows: Iterable[RowTotals]) -> tuple[AskerRows, ...]:
    """Return rows as an entry holds them: by asker."""
    found: dict[tuple[str, str, str], list[FleetRow]] = {}
    for one in rows:
        found.setdefault(one.key[:3], []).append(one.row)
    return tuple(AskerRows(*asker, tuple(of_asker)) for asker, of_asker in found.items())
