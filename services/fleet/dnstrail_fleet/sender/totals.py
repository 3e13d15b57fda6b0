"""The rows of a host with their totals, and which of them are due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final, NamedTuple

from dnstrail.dns.rdata import AAAA, A
from dnstrail.history.following import AnswerContent, SpooledAnswer, UseContent
from dnstrail_fleet.row import DAY, GRACE, MOST_BYTES, MOST_ROWS, AskerRows, FleetRow

#: rows that the sender remembers -> it forgets those of earlier days, then those that were sent earliest: `forgotten`
MOST_KNOWN: Final = 262_144
#: rows that wait to be sent -> the sender reads no further until some are sent
MOST_WAITING: Final = 65_536
AGAIN: Final = 900.0  #: seconds between two entries with the same row
_TOGETHER: Final = 5.0  # seconds after an entry until one without a new relation: an entry costs as much as many rows
_LONGEST_TEXT: Final = 1024  # characters of a text in a row
_MOST_CONTENTS: Final = 65_536  # whose rows are found without a look at their texts
_SECOND: Final = 1_000_000_000  # ns
_OVERHEAD: Final = 56  # bytes of the numbers of a row, at most; those of its texts are counted
_AHEAD: Final = 30  # seconds: the store accepts a minute
_STEP_BACK: Final = 1.0  # seconds by which the clock is set back -> all rows are looked at
_NEVER: Final = -inf
_ADDRESSES: Final = (A, AAAA)


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
    """The totals of a row of one day, from the time `first` of the answer that is added first. Times are seconds.

    `due` is the time at which they are to be sent, None if they did not change since they were. `sent_use` is `used` as
    it was sent last. `number` is that of the row in the file of the sender, 0 until it is stored.
    """

    __slots__ = (
        "count",
        "day",
        "doubted",
        "due",
        "end",
        "first",
        "gaps",
        "key",
        "last",
        "number",
        "sent",
        "sent_use",
        "used",
    )

    def __init__(self, key: RowKey, day: int, first: int, sent: float = _NEVER) -> None:
        self.key = key
        self.day = day
        self.number = 0
        self.first = self.last = self.end = first
        self.count = self.gaps = self.doubted = 0
        self.sent = sent  # when a row of this key was sent last
        self.due: float | None = None
        self.used = self.sent_use = 0

    def add(self, at: int, end: int, doubted: bool) -> None:
        """Add an answer. It is called for each relation of each answer."""
        if at > self.last:
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
        states = self.sent != _NEVER, self.used, self.sent_use > 0
        return FleetRow(question, "" if owner == question else owner, rdtype, target, self.day, *times, *states)

    @property
    def size(self) -> int:
        """The bytes of the row in an entry, at most."""
        program, container, image, question, owner, _, target = self.key
        owner = "" if owner == question else owner
        return _OVERHEAD + len(f"{program}{container}{image}{question}{owner}{target}".encode())


class _ContentRows:
    """The rows of one content on a day, None for a relation that is left out.

    `marked` is the step in which they were marked as changed, and told to wait.
    """

    __slots__ = ("day", "marked", "rows")

    def __init__(self, day: int, rows: list[RowTotals | None]) -> None:
        self.day = day
        self.rows = rows
        self.marked = -1


class RelationTotals:
    """The rows of a host. Invariant: each row that is due has one entry in the queue with that time.

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
        self._of_content: dict[AnswerContent, _ContentRows] = {}
        self._step = 0  # counts when rows cease to wait, or to be changed
        self._leading: dict[tuple[str, ...], RowKey] = {}  # by asker, question and address: how it was led there last
        self._used: set[RowKey] = set()  # of the rows with a connection on any day
        self._number = count()
        self._queue: list[tuple[float, int, RowTotals]] = []
        self.waiting = 0  # rows that wait to be sent
        self._sent = _NEVER  # the time of an entry after which they wait for each other if none is new
        self._reached = inf  # the latest time of the clock, which may have been set back since the rows were stored
        for row in rows:
            self._keep(row)
            if row.used:
                self._used.add(row.key)
            due, row.due = row.due, None
            if due is not None:
                self._wait(row, due)

    def add(self, answer: SpooledAnswer) -> None:
        """Add an answer."""
        content = answer.content
        at = answer.ended // _SECOND
        found = self._of_content.get(content)
        if found is None or found.day != at // DAY:
            found = self._of_content[content] = _ContentRows(at // DAY, [*self._rows_of(content, at)])
        if found.marked != self._step:
            self._mark(found)
        after = at + 1  # the end of an answer within a second is that of the next one
        for row, ttl in zip(found.rows, answer.ttls, strict=True):
            if row is not None:
                row.add(at, after + ttl, answer.doubted)

    def add_use(self, opened: int, use: UseContent) -> None:
        """Add a connection that was opened at a time (ns since the epoch). The first one of a relation is due at once.

        It belongs to the answers of the asker that led to its address by its name last before.
        """
        at = opened // _SECOND
        asker = (text[:_LONGEST_TEXT] for text in (use.program, use.container, use.image))
        key = self._leading.get((*asker, use.name, use.address))
        row = None if key is None else self._latest.get(key)
        if row is not None and at < row.first:  # the clock was ahead, or its answer has a later one
            rows = (self._rows.get((row.key, day)) for day in (at // DAY, at // DAY - 1))
            row = next((one for one in rows if one is not None and one.first <= at), None)
        if row is None or at <= row.used:
            return
        row.used = at
        self.changed[row] = None
        due = row.sent + AGAIN if row.key in self._used else _NEVER
        self._used.add(row.key)
        if row.due is None or due < row.due:
            self._wait(row, due)

    def due(self, now: float) -> list[RowTotals]:
        """Take the rows that are due at a time (seconds since the epoch), within the bounds of an entry.

        Rows that were sent before wait for each other: an entry without a new relation, or its first connection,
        follows the last one after some seconds. A row whose last answer is ahead of that time, since the clock was set
        back, waits for another turn.
        """
        self._step += 1
        if now < self._reached - _STEP_BACK:
            self._set_back(now)
            self._reached = now
        elif now > self._reached:
            self._reached = now
        found: list[RowTotals] = []
        if self._earliest > _NEVER and 0 <= now - self._sent < _TOGETHER:
            return found
        size = 0
        while self._queue and self._queue[0][0] <= now and len(found) < MOST_ROWS and size < MOST_BYTES // 2:
            due, _, row = heappop(self._queue)
            if row.due != due:
                continue  # it was sent earlier
            self.waiting -= 1
            row.due = None
            if max(row.last, row.used) > now + _AHEAD:
                self._wait(row, now + AGAIN)
                continue
            size += row.size
            found.append(row)
        return found

    def note_sent(self, rows: Iterable[RowTotals], now: float) -> None:
        """Note that rows which were due were sent."""
        for row in rows:
            row.sent, row.sent_use = now, row.used
            self.changed[row] = None
        self._sent = now if self._earliest > now else _NEVER
        if len(self._rows) > MOST_KNOWN:
            self._forget(int(now) // DAY)

    def put_back(self, rows: Iterable[RowTotals]) -> None:
        """Note that rows which were due were not sent."""
        for row in rows:
            self._wait(row, _NEVER)

    def note_stored(self) -> None:
        """Note that all rows that changed, or were forgotten, are stored as they are now."""
        self._step += 1
        self.changed.clear()
        self.gone.clear()

    @property
    def _earliest(self) -> float:
        """The earliest time at which a row is due."""
        return self._queue[0][0] if self._queue else inf

    def _wait(self, row: RowTotals, due: float) -> None:
        """Let a row be sent at a time; an entry of the queue with another time is none of it any more."""
        self.waiting += row.due is None
        row.due = due
        heappush(self._queue, (due, next(self._number), row))

    def _set_back(self, now: float) -> None:
        """Let no row wait for a time that the clock reached before it was set back."""
        latest = now + AGAIN
        self._queue = []  # else the times that are ahead would stay in it
        for row in self._rows.values():
            if row.sent > now:
                row.sent = now
                self.changed[row] = None
            due = row.due
            if due is None:
                continue
            if due > latest:
                due = row.due = latest
                self.changed[row] = None
            self._queue.append((due, next(self._number), row))
        heapify(self._queue)

    def _mark(self, found: _ContentRows) -> None:
        """Note that rows change, and let them wait to be sent."""
        found.marked = self._step
        for row in found.rows:
            if row is not None:
                self.changed[row] = None
                if row.due is None:
                    self._wait(row, row.sent + AGAIN)

    def _rows_of(self, content: AnswerContent, at: int) -> Iterator[RowTotals | None]:
        day = at // DAY
        if len(self._of_content) > _MOST_CONTENTS:
            self._of_content.clear()
        asker = content.program[:_LONGEST_TEXT], content.container[:_LONGEST_TEXT], content.image[:_LONGEST_TEXT]
        for owner, rdtype, target in content.relations:
            if max(map(len, (content.question, owner, target))) > _LONGEST_TEXT:
                self.left_out += 1
                yield None
                continue
            key = RowKey(*asker, content.question, owner, rdtype, target)
            row = earlier = self._latest.get(key)
            if row is None or row.day != day:
                row = self._rows.get((key, day))
            if row is None:
                row = RowTotals(key, day, at, _NEVER if earlier is None else earlier.sent)
                row.gaps = int(day <= self._forgotten_until)
                self._keep(row)
            if rdtype in _ADDRESSES:
                self._leading[_led(key)] = key
            yield row

    def _keep(self, row: RowTotals) -> None:
        self._rows[row.key, row.day] = row
        latest = self._latest.get(row.key)
        if latest is None or latest.day <= row.day:
            self._latest[row.key] = row
        if row.key.type in _ADDRESSES:
            self._leading.setdefault(_led(row.key), row.key)

    def _forget(self, today: int) -> None:
        """Forget the eighth of the rows that waits for nothing: earlier days first, and what was sent earliest."""
        idle = (row for row in self._rows.values() if row.due is None)
        for row in sorted(idle, key=lambda row: (min(row.day, today), row.sent))[: MOST_KNOWN // 8]:
            self.forgotten += row.day >= today
            self._forgotten_until = max(self._forgotten_until, row.day)
            del self._rows[row.key, row.day]
            if self._latest.get(row.key) is row:
                del self._latest[row.key]
                self._used.discard(row.key)
                if self._leading.get(led := _led(row.key)) == row.key:
                    del self._leading[led]
            self.changed.pop(row, None)
            self.gone.append(row)
        self._of_content.clear()


def _led(key: RowKey) -> tuple[str, ...]:
    """Return the asker, the question and the target of a relation."""
    return (*key[:4], key.target)


def by_asker(rows: Iterable[RowTotals]) -> tuple[AskerRows, ...]:
    """Return rows as an entry holds them: by asker."""
    found: dict[tuple[str, str, str], list[FleetRow]] = {}
    for one in rows:
        found.setdefault(one.key[:3], []).append(one.row)
    return tuple(AskerRows(*asker, tuple(of_asker)) for asker, of_asker in found.items())
