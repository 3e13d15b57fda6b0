"""The clock of the cache: a step of the wall clock loses, ends and prolongs nothing."""

from __future__ import annotations

import pytest

from dnstrail.captured import Captured
from dnstrail.image import Bounds, Image
from dnstrail.image.bounds import SECOND
from dnstrail.process.clock import nanoseconds
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.state.cache_clock import CacheClock
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, Messages, response

DNS = "net_packet_dns"
HOUR = 3600.0
WALL = 1_700_000_000.0


def turn_at(now: int, start: str = "s") -> Turn:
    """Return a turn of a probe whose clock showed `now`."""
    return Turn(start, 0, {}, True, now)


class Watched:
    """A cache and a live probe whose own clock is some time off; times are seconds since the start."""

    def __init__(self, ahead: float = 0.0, grace: float = 0.0) -> None:
        self.clock = FakeClock(WALL)
        self.messages = Messages()
        self.state = CacheState(Image(Bounds(grace=grace)), self.clock)
        self._feeder = Feeder(self.messages, self.state, lambda *_: None)
        self._ahead = ahead
        self._turns = self._batches = 0
        self._since = 0.0
        self.turn()

    def until(self, seconds: float) -> None:
        """Let time pass, and what has arrived be applied."""
        self.clock.advance(seconds - self._since)
        self._since = seconds
        self.turn()

    def step(self, seconds: float) -> None:
        """Set the wall clock to another time."""
        self.clock.wall_time += seconds
        self.state.stream.difference()

    def turn(self) -> None:
        """End a turn of the probe."""
        last = {DNS: self._batches - 1} if self._batches else {}
        turn = Turn("s", self._turns, last, True, self._stamp(self._since))
        self.messages.waiting.append((TURN, encode(turn)))
        self._turns += 1
        self._feeder.drain()

    def answer(self, name: str, ttl: int, early: float = 0.0) -> None:
        """Apply an answer that the probe stamped just now, or some seconds ahead of that."""
        event = Captured(self._stamp(self._since + early), response(name, f"{name} {ttl} A 192.0.2.1"))
        self.messages.waiting.append((DNS, encode(Batch("s", self._turns, self._batches, [event]))))
        self._batches += 1
        self.turn()

    def _stamp(self, seconds: float) -> int:
        return round((WALL + self._ahead + seconds) * SECOND)

    def names(self, at: float | None = None) -> list[str]:
        """Return the names of the address, now or at a wall time."""
        found = self.state.image.get("192.0.2.1", now=self.state.now, at=self.state.moment(at))
        return found.dns_queries if found else []


@pytest.mark.parametrize("step", [HOUR, -HOUR])
@pytest.mark.parametrize("ahead", [0.0, 500.0, -500.0], ids=["one clock", "a probe ahead", "a probe behind"])
def test_a_step_of_the_wall_clock_changes_no_life(step, ahead):
    """Answers before and after a step by an hour are live for their own TTL, and no longer."""
    watched = Watched(ahead)
    watched.answer("a.com", 100)
    watched.step(step)
    assert watched.names() == ["a.com"]
    watched.until(50)
    watched.answer("b.com", 100)
    watched.until(99.9)
    assert sorted(watched.names()) == ["a.com", "b.com"]
    watched.until(100)
    assert watched.names() == ["b.com"]
    watched.until(149.9)
    assert watched.names() == ["b.com"]
    watched.until(150)
    assert watched.names() == []


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_wall_clock_removes_nothing(step):
    """Ended answers are held for the history after a step, and not longer."""
    watched = Watched()
    watched.answer("a.com", 10)
    watched.step(step)
    for seconds, held in ((309.9, 1), (310, 0)):
        watched.until(seconds)
        assert len(watched.state.image) == held


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_past_time_is_read_by_the_difference_that_held_then(step):
    """A lookup with `at` before the step means wall time as it was then; after the step as it is now."""
    watched = Watched()
    watched.answer("a.com", 10)
    watched.until(60)
    watched.step(step)
    watched.until(100)
    watched.answer("b.com", 10)
    watched.until(130)
    assert watched.names(at=WALL + 5) == ["a.com"]
    assert watched.names(at=WALL + 20) == []
    assert watched.names(at=WALL + step + 105) == ["b.com"]
    assert watched.names(at=WALL + step + 115) == []
    assert watched.names() == []


def test_an_event_is_found_at_the_wall_time_that_is_shown():
    """The time of an answer, shown before or after a step, finds it as `at`."""
    watched = Watched(ahead=-500)
    watched.until(20)
    watched.answer("a.com", 10)
    for step in (0, HOUR, -2 * HOUR):
        watched.step(step)
        trail = watched.state.image.trails("192.0.2.1", now=watched.state.now).trails[0]
        shown = trail.last_seen + watched.state.wall(0)
        assert shown == pytest.approx(watched.clock.wall_time)
        assert watched.names(at=shown) == ["a.com"]


def test_a_stamp_ahead_of_its_arrival_is_counted():
    """An answer that is stamped ahead of its arrival lives from its arrival, and is counted."""
    watched = Watched()
    watched.answer("a.com", 10, early=1000)
    assert watched.state.counters == {"stamp_ahead": 1}
    watched.until(9.9)
    assert watched.names() == ["a.com"]
    watched.until(10)
    assert watched.names() == []


def test_the_clock_never_steps():
    """The clock shows the time that has passed since it was made, whatever the wall clock does."""
    fake = FakeClock(WALL)
    clock = CacheClock(fake)
    for step in (HOUR, -3 * HOUR, 0.5):
        before = clock.now()
        fake.wall_time += step
        assert clock.now() == before
        fake.advance(1)
        assert clock.now() == before + SECOND


def test_the_last_64_differences_are_remembered():
    """Of endless steps the last 64 are remembered."""
    fake = FakeClock(WALL)
    clock = CacheClock(fake)
    for _ in range(100):
        fake.advance(10)
        fake.wall_time += HOUR
        clock.difference()
    assert len(clock._differences) == 64
    for step, after in ((100, 1000), (99, 995), (50, 505)):
        assert abs(clock.moment(nanoseconds(WALL + step * HOUR + after)) - (WALL + after) * SECOND) < 2000


def test_a_wall_time_that_was_left_out_is_that_of_the_step():
    """A wall time between the two sides of a step forward is the time of the step."""
    fake = FakeClock(WALL)
    clock = CacheClock(fake)
    fake.advance(10)
    fake.wall_time += HOUR
    assert abs(clock.moment(nanoseconds(WALL + 10 + HOUR / 2)) - (WALL + 10) * SECOND) < 2000


def test_a_start_that_is_forgotten_is_not_shifted():
    """The clock of a start that gave way is unknown until its next turn."""
    clock = CacheClock(FakeClock(WALL))
    for start in ("gone", "s"):
        clock.note_turn(turn_at(0, start))
    clock.forget("gone")
    clock.forget("unknown")
    assert (clock.shift_of("gone"), clock.shift_of("s")) == (None, clock.now())


def test_a_late_turn_does_not_shift_a_probe():
    """The smallest difference of the last 30 to 60 s counts: a turn that was on its way shifts nothing."""
    fake = FakeClock(WALL)
    clock = CacheClock(fake)
    clock.note_turn(turn_at(clock.now() - 500 * SECOND))
    fake.advance(1)
    clock.note_turn(turn_at(clock.now() - 507 * SECOND))
    assert clock.shift_of("s") == 500 * SECOND
    for _ in range(70):
        fake.advance(1)
        clock.note_turn(turn_at(clock.now() - 501 * SECOND))
    assert clock.shift_of("s") == 501 * SECOND, "the drift of two hosts is followed"


@pytest.fixture
def followed():
    """Return the clock of the host, that of a cache which followed a probe for 100 s, and the begin by the probe."""
    fake = FakeClock(WALL)
    clock = CacheClock(fake)
    behind = clock.now() - 500 * SECOND
    for second in range(100):
        clock.note_turn(turn_at(behind + second * SECOND))
        fake.advance(1)
    return fake, clock, behind


@pytest.mark.parametrize("pause", [120, 28_800])
def test_the_clock_of_a_host_that_was_suspended_is_behind(followed, pause):
    """Two seconds after a host goes on, its answers have the time at which they arrive: its clock stood still."""
    fake, clock, behind = followed
    fake.advance(pause)
    for second in range(100, 104):
        clock.note_turn(turn_at(behind + second * SECOND))
        fake.advance(1)
    assert clock.shift_of("s") == (500 + pause) * SECOND


def test_turns_that_were_on_their_way_shift_no_probe(followed):
    """After a silence of the network, the turns that waited come at once: the shift of the live ones counts."""
    fake, clock, behind = followed
    fake.advance(20)
    for second in range(100, 121):
        clock.note_turn(turn_at(behind + second * SECOND))
        assert clock.shift_of("s") == 500 * SECOND
    for second in range(121, 200):
        fake.advance(1)
        clock.note_turn(turn_at(behind + second * SECOND))
        assert clock.shift_of("s") == 500 * SECOND


def test_the_time_of_an_event_is_that_of_its_application():
    """An event has the time with which it was applied, although the shift of its probe was corrected since."""
    clock = FakeClock()
    stream = CacheClock(clock)
    now = stream.now()
    stream.note_turn(turn_at(now - 500))
    applied = now - 100 + stream.shift_of("s")
    clock.advance(1)
    stream.note_turn(turn_at(now + SECOND - 300))
    assert stream.shift_of("s") == 300
    assert stream.event_time("s", now - 100) == applied == now + 400
    assert stream.event_time("s", now + 2 * SECOND) == now + 2 * SECOND + 300
    assert stream.event_time("unknown", 7) == 7 + 10 * SECOND


def test_an_event_that_arrives_late_is_found_at_its_time():
    """A stamp from before the first turn, as resolvers report it, has the shift with which its event was applied."""
    clock = FakeClock()
    stream = CacheClock(clock)
    now = stream.now()
    stream.note_turn(turn_at(now - 500))
    applied = now - SECOND + stream.shift_of("s")
    assert stream.event_time("s", now - SECOND) >= applied
    assert stream.event_time("s", now - 60 * SECOND) == now - 60 * SECOND + 500  # a probe replays it
