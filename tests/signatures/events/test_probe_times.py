"""The times of the DNS events of a file."""

from __future__ import annotations

from dnstrail_signatures.events.probe_times import StreamTimes


def test_a_late_packet_does_not_turn_the_time_back():
    """The time of an event is the greatest time stamp until then, also of earlier batches of its start."""
    times = StreamTimes()
    assert times.of("s", [5, 3, 7]) == [5, 5, 7]
    assert times.of("s", [6, 9]) == [7, 9]
    assert times.of("another", [1, 2]) == [1, 2]
    assert times.of("s", []) == []


def test_a_start_that_is_forgotten_begins_anew():
    """The times of a start that gave way count no more."""
    times = StreamTimes()
    times.of("s", [9])
    times.forget("s")
    times.forget("s")
    assert times.of("s", [1]) == [1]
