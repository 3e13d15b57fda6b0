"""The clock of the cache, which never steps, and its differences to the clocks of probes and to wall time."""

from __future__ import annotations

from collections import deque

from dnstrail.image.bounds import SECOND
from dnstrail.process.clock import Clock, StreamClock
from dnstrail.protocol.batches import Turn

#: steps of the wall clock that the cache remembers for `at` -> an earlier `at` is converted by the oldest difference
_STEPS = 64
_LATE = 10 * SECOND  # by which the stamp of an event may lie before the turn after which it was applied
_WINDOW = 30 * SECOND  # the smallest shift of a probe counts for one to two windows
_SILENCE = 7 * SECOND // 2  # of a probe, which ends a turn each second -> its clock may have stood still meanwhile
_SETTLED = 2 * SECOND  # after a silence its smallest shift counts: what was on its way has arrived
_SLACK = SECOND // 500  # by which a shift through wall time may change: two clocks read one step


class CacheClock(StreamClock):
    """The clock of the cache, which never steps, in ns since the epoch.

    `shift_of` converts the times of one start of a probe: exactly through wall time if the probe states the boot id of
    this host, else by an estimate. `moment` converts a wall time, by the difference that held at that time. The printed
    time of an event of this host thus is the time at which it was applied.
    """

    def __init__(self, clock: Clock, boot_id: str = "") -> None:
        super().__init__(clock)
        self._boot_id = boot_id
        self._differences: deque[tuple[int, int]] = deque([(-(1 << 62), 0)], maxlen=_STEPS)  # since, difference
        self._shifts: dict[str, _Shift] = {}

    def difference(self) -> int:
        """Return wall time minus the clock, and remember a step of wall time."""
        difference = super().difference()
        if difference != self._differences[-1][1]:
            self._differences.append((self.now(), difference))
        return difference

    def moment(self, wall: int) -> int:
        """Return the time of the clock at a wall time (ns), the last one if wall time stepped back.

        A wall time that a step left out is the time of the last step.
        """
        self.difference()
        until = self.now() + SECOND  # a client's clock may be a little ahead
        for since, difference in reversed(self._differences):
            if since <= wall - difference <= until:
                return wall - difference
            until = since
        since, difference = self._differences[-1]
        return max(wall - difference, since)

    def note_turn(self, turn: Turn) -> None:
        """Note that the end of a turn arrived."""
        shift = self._shifts.get(turn.start)
        if shift is None:
            shift = self._shifts[turn.start] = _Shift()
        shift.note(self.now(), turn.now)
        if turn.boot_id and turn.boot_id == self._boot_id:
            shift.note_exact(self.now(), turn.difference - self.difference())
        shift.note_change(turn.now)

    def forget(self, start: str) -> None:
        """Forget the clock of a start that is followed no more."""
        self._shifts.pop(start, None)

    def shift_of(self, start: str) -> int | None:
        """Return the shift from the clock of a probe to this clock; None before its first turn."""
        shift = self._shifts.get(start)
        return None if shift is None else shift.least

    def event_time(self, start: str, stamp: int) -> int:
        """Return the time on this clock that the events of a probe at one time had when they were applied, or later.

        Before the first turn of a probe, as after a restart of the cache, their shift is unknown.
        """
        shift = self._shifts.get(start)
        return stamp + (_LATE if shift is None else shift.at(stamp))

    def delay_of(self, start: str) -> int:
        """Return by how much the last turn of a probe was slower than its fastest turn (ns)."""
        shift = self._shifts.get(start)
        return 0 if shift is None else max(shift.last - shift.least, 0)


class _Shift:
    """The shift of one probe: the exact one if it is known, else an estimate, `least`.

    A turn that was delayed shows a greater difference, so the smallest difference is nearest to the truth. The clocks
    of two hosts drift apart slowly, so a difference counts only within the present window and the window before. The
    clock of a host that is suspended stands still, so after a silence those before count for two seconds only. The
    exact shift is constant: one that differs was stated on one side of a step of wall time, and read on the other.
    """

    __slots__ = ("_before", "_changes", "_confirmed", "_exact", "_heard", "_since", "_young", "last", "least")

    def __init__(self) -> None:
        self._since: int | None = None
        self._young = self._before = self._heard = self.least = self.last = 0
        self._exact: int | None = None
        self._confirmed = 0  # when the exact shift was stated last
        self._changes: deque[tuple[int, int]] = deque([(-(1 << 62), 0)], maxlen=_STEPS)  # after a turn, shift

    def note(self, now: int, turn: int) -> None:
        self.last = difference = now - turn
        if self._since is None:
            self._since, self._young, self._before = now, difference, difference
            self._changes[0] = self._changes[0][0], max(difference, 0)  # a replay applies events of before
        elif now - self._heard > _SILENCE:
            self._since, self._before, self._young = now - _WINDOW + _SETTLED, self.least, difference
        elif now - self._since > _WINDOW:
            self._since, self._before, self._young = now, self._young, difference
        self._heard = now
        self._young = min(self._young, difference)
        self.least = min(self._young, self._before)

    def note_exact(self, now: int, shift: int) -> None:
        """Note the shift through wall time, after `note` of the same turn."""
        known, delay = self._exact, self.last - shift
        stands = known is not None and now - self._confirmed > _WINDOW and delay <= SECOND
        if delay >= -_SLACK and (known is None or stands or abs(shift - known) <= _SLACK):
            self._exact, self._confirmed = shift, now
        if self._exact is not None:
            self.least = self._exact

    def note_change(self, turn: int) -> None:
        """Remember the present shift if it is another one than before a turn."""
        if self.least != self._changes[-1][1]:
            self._changes.append((turn, self.least))

    def at(self, stamp: int) -> int:
        """Return the greatest shift that may have been applied to events of a time.

        A stamp can be older than a turn that ended before its event arrived: a resolver reports over a socket.
        """
        greatest = None
        for since, shift in reversed(self._changes):
            if since < stamp + _LATE:
                greatest = shift if greatest is None else max(greatest, shift)
            if since < stamp:
                break
        return self._changes[0][1] if greatest is None else greatest
