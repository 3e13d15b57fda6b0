"""The clock of a probe on the host of its cache is converted exactly; that of any other probe is estimated."""

from __future__ import annotations

from itertools import count

import msgpack
import pytest

from dnstrail.image.bounds import SECOND
from dnstrail.process.clock import StreamClock
from dnstrail.protocol.batches import Turn, decode
from dnstrail_cache.state.cache_clock import CacheClock
from live.workers import FakeClock

BOOT = "6f6d0e1c-0000-4000-8000-000000000001"
HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, 0.2, -0.2, 0.01, -0.01])


class OneHost:
    """A cache and a probe on one host; the probe began three seconds earlier, when the wall clock was 0.25 s behind."""

    def __init__(self, boot_id: str = BOOT) -> None:
        self.clock = FakeClock()
        self.probe = StreamClock(self.clock)
        self.clock.advance(3)
        self.clock.wall_time += 0.25
        self.cache = CacheClock(self.clock, BOOT)
        self._boot_id = boot_id
        self._numbers = count()
        self.turn()

    def turn(self, late: float = 0.005, step: float = 0.0) -> None:
        """End a turn of the probe; it arrives some time later, and the wall clock steps meanwhile."""
        now, difference = self.probe.now(), self.probe.difference()
        turn = Turn("s", next(self._numbers), {}, True, now, difference=difference, boot_id=self._boot_id)
        self.clock.advance(late)
        self.clock.wall_time += step
        self.cache.note_turn(turn)

    def event(self) -> tuple[int, int]:
        """Return the time of an event on the clock of the cache, and the time that is printed."""
        stamp, printed = self.probe.now(), self.probe.now() + self.probe.difference()
        self.clock.advance(0.001)
        return stamp + (self.cache.shift_of("s") or 0), printed


def test_the_printed_time_of_an_event_is_the_time_at_which_it_was_applied():
    """However late turns arrive, an event of the same host is applied at the time that is printed."""
    host = OneHost()
    for late in (0.3, 0.004, 0.9, 0.0001, 70.0):
        host.turn(late)
        applied, printed = host.event()
        assert host.cache.moment(printed) == applied


@STEPS
def test_a_printed_time_stays_exact_over_a_step(step):
    """The wall clock steps: events that were printed before and after it are found at their printed times."""
    host = OneHost()
    host.turn()
    before, printed_before = host.event()
    host.clock.advance(0.5)
    host.clock.wall_time += step
    host.turn()
    assert host.cache.moment(printed_before) == before
    host.turn()
    after, printed_after = host.event()
    assert host.cache.moment(printed_after) == after
    assert after - before >= 0.5 * SECOND


@STEPS
def test_a_step_while_a_turn_is_on_its_way_moves_no_event(step):
    """A turn that was closed before a step and is read after it, late or not, changes no time."""
    host = OneHost()
    true = host.cache.shift_of("s")
    host.turn(0.001, step)
    assert host.cache.shift_of("s") == true
    host.turn(0.001)
    assert abs(host.cache.shift_of("s") - true) < 1000


@STEPS
def test_a_first_turn_across_a_step_is_corrected(step):
    """The first turn was closed before a step and read after it: within two windows the shift is right again."""
    host = OneHost()
    true = host.cache.shift_of("s")
    host.cache.forget("s")
    host.turn(0.001, step)
    for _ in range(70):
        host.clock.advance(1)
        host.turn(0.001)
    assert abs(host.cache.shift_of("s") - true) < 1000


def test_the_delay_of_a_turn_is_its_own():
    """A cache that never caught up knows how far it is behind a probe of its own host."""
    host = OneHost()
    for _ in range(3):
        host.clock.advance(1)
        host.turn(late=2.0)
    assert host.cache.delay_of("s") == pytest.approx(2 * SECOND, abs=1000)


@pytest.mark.parametrize("boot_id", ["", "6f6d0e1c-0000-4000-8000-000000000002"], ids=["unknown", "another"])
def test_the_clock_of_another_boot_is_estimated(boot_id):
    """Without the boot id of this host the fastest turn counts, whatever difference is stated."""
    host = OneHost(boot_id)
    host.turn(0.002)
    exact = host.cache.now() - host.probe.now()
    assert host.cache.shift_of("s") == pytest.approx(exact + 0.002 * SECOND, abs=1000)


def test_a_cache_that_knows_no_boot_id_believes_none():
    """An empty boot id is nobody's."""
    host = OneHost("")
    host.cache = CacheClock(host.clock, "")
    host.turn(0.004)
    assert host.cache.shift_of("s") == pytest.approx(host.cache.now() - host.probe.now() + 0.004 * SECOND, abs=1000)


def test_a_turn_of_an_earlier_probe_has_no_boot_id():
    """The wire form without a boot id is read: its clock is estimated."""
    wire = ["s", 3, {}, True, 10**18, False, {}, None, {}, "web1", "m", [], 5, 7]
    turn = decode(msgpack.packb(wire), Turn)
    assert (turn.since, turn.difference, turn.boot_id) == (7, 5, "")
