"""The times of the DNS events of a file."""

from __future__ import annotations

from dnstrail.protocol.members import MAX_STARTS
from dnstrail_signatures.events.stream_times import StreamTimes


def test_a_late_packet_does_not_turn_the_time_back():
    """The time of an event is the greatest time stamp until then, also of earlier batches of its start."""
    times = StreamTimes()
    assert times.of("s", [5, 3, 7]) == [5, 5, 7]
    assert times.of("s", [6, 9]) == [7, 9]
    assert times.of("another", [1, 2]) == [1, 2]
    assert times.of("s", []) == []


def test_the_starts_that_are_remembered_are_bounded():
    """Beyond MAX_STARTS the start that was heard longest ago is forgotten."""
    times = StreamTimes()
    times.of("first", [9])
    for number in range(MAX_STARTS - 1):
        times.of(f"s{number}", [9])
    assert times.of("first", [1]) == [9]
    times.of("further", [9])
    assert times.of("s0", [1]) == [1]
