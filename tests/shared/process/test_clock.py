from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.process.clock import StreamClock, SystemClock, nanoseconds, read_moment

SECOND = 10**9
HOUR = 3600
START = 1_700_000_000  # of the wall clock, in seconds
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, 0.01, -0.01])


class HostClock(SystemClock):
    """The clock of a host whose wall time may step. A reading may take time."""

    def __init__(self, pauses: list[float] | None = None) -> None:
        self.passed = 0  # ns since the start
        self.step = 0.0  # seconds
        self.pauses = pauses or []  # seconds before each of the next readings, the last first

    def pass_time(self, seconds: float) -> None:
        self.passed += round(seconds * SECOND)

    @property
    def shown(self) -> int:
        """The present wall time in ns."""
        return START * SECOND + self.passed + round(self.step * SECOND)

    def wall(self) -> float:
        self._pause()
        return self.shown / SECOND

    def monotonic(self) -> float:
        self._pause()
        return (100 * SECOND + self.passed) / SECOND

    def _pause(self) -> None:
        if self.pauses:
            self.pass_time(self.pauses.pop())


@pytest.fixture
def host() -> HostClock:
    return HostClock()


@pytest.fixture
def stream(host: HostClock) -> StreamClock:
    return StreamClock(host)


@STEPS
def test_a_step_of_the_wall_clock_moves_the_difference_alone(host, stream, step):
    """The clock continues over a step of the wall clock, and the difference is the step."""
    before = stream.now()
    assert (before, stream.difference()) == (host.shown, 0)
    host.step += step
    host.pass_time(5)
    assert stream.now() - before == 5 * SECOND
    assert stream.difference() == pytest.approx(step * SECOND, abs=1000)
    host.step -= step
    assert stream.difference() == pytest.approx(0, abs=1000)


@given(st.lists(st.floats(0, 2), max_size=30))
def test_the_difference_is_constant_however_long_a_reading_takes(pauses):
    """A process that stands still between two readings of the clocks does not take this for a step."""
    stream = StreamClock(host := HostClock())
    host.pauses = pauses
    assert {stream.difference() for _ in range(12)} == {0}


def test_a_pause_while_the_clock_is_made_is_corrected():
    """The time of the stream plus the difference is wall time, though the clock was made of readings apart."""
    stream = StreamClock(host := HostClock([3.0, 0.0]))
    assert stream.now() + stream.difference() == pytest.approx(host.shown, abs=1000)


@STEPS
def test_stamps_from_both_sides_of_a_step_are_read(host, stream, step):
    """Shortly after a step, a stamp that was taken before it and one that was taken after it keep their distance."""
    earlier, at = host.shown, stream.now()
    host.pass_time(0.0001)
    host.step += step
    assert stream.from_wall([earlier, host.shown]) == pytest.approx([at, at + 100_000], abs=1000)


@STEPS
def test_a_pause_while_a_step_is_measured_hides_no_earlier_stamp(host, stream, step):
    """Stamps from before a step keep their time, though the reading that noticed the step took half a millisecond."""
    earlier, at = host.shown, stream.now()
    host.step += step
    host.pauses = [0, 0.0005, 0]
    assert [stream.difference() for _ in range(3)] == pytest.approx([step * SECOND] * 3, abs=1_000_000)
    assert stream.from_wall([earlier]) == pytest.approx([at], abs=1000)


@STEPS
def test_long_after_a_step_stamps_are_read_by_the_present_difference(host, stream, step):
    """Ten seconds after a step, no stamp is read as one from before it."""
    host.step += step
    stream.difference()
    host.pass_time(10.001)
    shown = [host.shown - 5 * SECOND, host.shown + 5 * SECOND]
    assert stream.from_wall(shown) == pytest.approx([stream.now() - 5 * SECOND, stream.now() + 5 * SECOND], abs=1000)


def test_a_stamp_that_is_ahead_stays_ahead(host, stream):
    """A stamp that the wall clock has not shown yet is ahead of the clock by as much."""
    host.step -= HOUR
    assert stream.from_wall([host.shown + 2 * HOUR * SECOND]) == [stream.now() + 2 * HOUR * SECOND]


@given(st.integers(0, 1 << 61), st.integers(0, 6))
def test_a_number_of_seconds_counts_to_the_end_of_its_microsecond(stamp, digits):
    """A time as it is printed, divided or cut off after some digits, names the end of the microsecond of its digits."""
    assert stamp <= nanoseconds(stamp / SECOND)
    assert stamp <= nanoseconds(stamp / 1e9), "it is rounded twice"
    unit = 10 ** (9 - digits)
    cut = stamp // unit * unit
    text = f"{cut // SECOND}.{cut % SECOND:09d}"
    assert cut <= nanoseconds(float(text))
    if stamp < 1 << 60:  # a float of later times cannot tell one microsecond from the next
        assert nanoseconds(float(text)) == cut // 1000 * 1000 + 999


@given(st.integers(START * SECOND, START * SECOND * 2))
def test_the_seconds_of_json_find_their_entry(stamp):
    """A time of a lookup's JSON is a double, and may be later than its entry: a begin finds it, and begins near it."""
    for seconds in (stamp / 10**9, stamp / 1e9):
        begin, end = (read_moment(str(seconds), is_begin=is_begin) for is_begin in (True, False))
        digits = len(str(seconds).partition(".")[2])
        if digits > 3:
            assert round(begin * 1e6) * 1000 <= stamp <= nanoseconds(end)
            assert nanoseconds(end) - round(begin * 1e6) * 1000 < 3000 + 10 ** (9 - digits)


def test_a_time_that_was_rounded_twice_is_found():
    """This time divided by 1e9 lies more than half a grain below it, in the microsecond before."""
    stamp = 1_795_898_084_274_610_023
    assert stamp <= nanoseconds(stamp / 1e9) < stamp + 1000


@pytest.mark.parametrize(
    ("seconds", "end"),
    [(0.0, 999), (1.5, 1_500_000_999), (-1.5, -1_499_999_001), (1000.000_001, 1_000_000_001_999), (1e300, None)],
)
def test_the_end_of_the_microsecond_of_some_numbers(seconds, end):
    """Whole and negative numbers count likewise, and none is too great."""
    assert nanoseconds(seconds) == end or (end is None and nanoseconds(seconds) > 10**308)
