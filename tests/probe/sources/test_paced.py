from __future__ import annotations

from collections import Counter

import pytest

from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.sources.paced import PacedSource
from live.workers import FakeClock

SECOND = 10**9


class Listed:
    """A source of chunks of events at given seconds."""

    def __init__(self, *chunks):
        self.name, self.live, self.counters = "a list", False, Counter(packets=3)
        self.capabilities, self.losses, self.damage = ("CAP_X",), {"full": "probe"}, "damage"
        self._chunks = [[(NET_PACKET_DNS, Captured(round(at * SECOND))) for at in chunk] for chunk in chunks]
        self.closed = False

    def read(self, timeout):
        return self._chunks.pop(0) if self._chunks else None

    def close(self):
        self.closed = True


@pytest.fixture
def clock():
    return FakeClock()


def due(paced):
    """Return the seconds of the events that are due, None at the end."""
    events = paced.read(0)
    return None if events is None else [event.timestamp / SECOND for _, event in events]


@pytest.mark.parametrize(("speed", "waits"), [(1, 10.0), (10, 1.0), (0.5, 20.0)])
def test_events_are_due_at_their_pace(clock, speed, waits):
    """The first event is due at once, each other at its distance from the first, divided by the speed."""
    paced = PacedSource(Listed([1000, 1010, 1010], [1020]), clock, speed, clock.sleep)
    assert due(paced) == [1000]
    clock.monotonic_time += waits - 0.001
    assert due(paced) == []
    clock.monotonic_time += 0.002
    assert due(paced) == [1010, 1010]
    assert due(paced) == []
    clock.monotonic_time += waits
    assert due(paced) == [1020]
    assert due(paced) is None
    assert due(paced) is None


def test_overdue_events_are_returned_together(clock):
    """After a long pause of the reader, all overdue events are returned together, in the order of the file."""
    paced = PacedSource(Listed([0, 1, 2, 3, 99]), clock, 1, clock.sleep)
    assert due(paced) == [0]
    clock.monotonic_time += 3
    assert due(paced) == [1, 2, 3]


def test_times_out_of_order_delay_nothing(clock):
    """An event that is older than the event before it is due with it; the order of the file is kept."""
    paced = PacedSource(Listed([5, 2, 6], [1]), clock, 1, clock.sleep)
    assert due(paced) == [5, 2]
    clock.monotonic_time += 1
    assert due(paced) == [6]
    assert due(paced) == [1]


def test_an_empty_read_is_no_end(clock):
    """A source without events for a moment returns none, and continues."""
    paced = PacedSource(Listed([], [7]), clock, 1, clock.sleep)
    assert due(paced) == []
    assert due(paced) == [7]
    assert due(paced) is None


def test_a_source_without_events_ends(clock):
    """An empty source is at its end at once."""
    assert due(PacedSource(Listed(), clock, 1, clock.sleep)) is None


def test_the_wall_clock_does_not_matter(clock):
    """The pace follows the monotonic clock."""
    paced = PacedSource(Listed([0, 1]), clock, 1, clock.sleep)
    assert due(paced) == [0]
    clock.wall_time += 1e6
    assert due(paced) == []


def test_it_describes_the_inner_source(clock):
    """It has the counters, capabilities, losses and damage of the inner source, names its speed, and closes it."""
    source = Listed([0])
    paced = PacedSource(source, clock, 2.0, clock.sleep)
    assert (paced.name, paced.live, paced.counters) == ("a list at speed 2", False, source.counters)
    assert (paced.capabilities, paced.losses, paced.damage) == (("CAP_X",), {"full": "probe"}, "damage")
    paced.close()
    assert source.closed
