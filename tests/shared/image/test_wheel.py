"""The wheel: deadlines by the second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.holders import HostPlaces, Owner, Party
from dnstrail.image.record import Record, Root, Sighting
from dnstrail.image.store import Wheel

NOW, LAG = 1_700_000_000 * SECOND + 1, 30 * SECOND


def record(due: int) -> Record:
    """Return a record whose relation ends LAG before a deadline."""
    evidence = Evidence(1, None, b"", b"", matched=False, foreign=None)
    sighting = Sighting(0, due - LAG, 1, (0,), evidence)
    return Record(
        Root("a", Party(("", "", 0, 0), Owner(("", "", 0), HostPlaces("", 0)))),
        (("a", 1, "1.1.1.1"),),
        sighting,
        doubted=False,
    )


@pytest.mark.parametrize("ahead", [0, 1, SECOND - 1, SECOND, 599 * SECOND, 601 * SECOND, 7 * 86_400 * SECOND])
def test_a_record_is_taken_between_its_bucket_and_its_deadline(ahead: int) -> None:
    """A record is taken at most 64 s and one second before its deadline, and never a second after it."""
    due = NOW + ahead
    wheel, one = Wheel(LAG), record(due)
    wheel.put(one, NOW)
    assert wheel.pop_due(max(NOW, due - 65 * SECOND) if ahead > 599 * SECOND else due - 1 - SECOND) is None
    assert wheel.pop_due(due + SECOND) is one
    assert wheel.pop_due(due + SECOND) is None
    assert (wheel._buckets, wheel._seconds, one.bucket) == ({}, [], None)


def test_a_record_of_the_present_second_is_taken_at_its_deadline() -> None:
    """Of the records of one second those are taken whose deadline is reached."""
    wheel, early, late = Wheel(LAG), record(NOW + 10), record(NOW + 20)
    for one in (late, early):
        wheel.put(one, NOW)
    assert [wheel.pop_due(NOW + ahead) for ahead in (9, 10, 19, 20)] == [None, early, None, late]


def test_deadlines_in_the_far_future_share_buckets() -> None:
    """Deadlines of a week need a bucket for each minute at most, not for each second."""
    wheel = Wheel(LAG)
    for ahead in range(700, 7 * 86_400, 7):
        wheel.put(record(NOW + ahead * SECOND), NOW)
    assert len(wheel._buckets) <= 7 * 86_400 / 64 + 1


def test_a_record_is_in_one_bucket() -> None:
    """A record that is put again moves to an earlier bucket, and stays in it for a later deadline."""
    wheel, one = Wheel(LAG), record(NOW)
    for ahead in (50, 20, 100, 7 * 86_400):
        end_at(one, NOW + ahead * SECOND - LAG)
        wheel.put(one, NOW)
    assert held(wheel) == 1
    assert wheel.pop_due(NOW + 21 * SECOND) is one
    assert wheel.pop_due(NOW + 10**6 * SECOND) is None


def test_a_record_is_in_one_wheel() -> None:
    """A record that is put into another wheel moves there if its deadline is earlier, else it stays."""
    first, second, one = Wheel(LAG), Wheel(LAG + 5 * SECOND), record(NOW + 10 * SECOND)
    second.put(one, NOW)
    first.put(one, NOW)
    assert (held(first), held(second)) == (1, 0)
    second.put(one, NOW)
    assert (held(first), held(second)) == (1, 0)


def test_a_deadline_in_the_second_of_another_wheel_is_met() -> None:
    """A record that waits in another wheel for the second of an earlier deadline is taken at the new one."""
    first, second, one = Wheel(LAG), Wheel(LAG + 5 * SECOND), record(NOW)
    second.put(one, NOW)
    end_at(one, one.ends + 5 * SECOND)  # in the first wheel the deadline is now what it was in the second
    first.put(one, NOW)
    assert first.pop_due(NOW + 5 * SECOND - 1) is None
    assert first.pop_due(NOW + 5 * SECOND) is one
    assert (held(first), held(second)) == (0, 0)


def test_an_emptied_bucket_keeps_no_record() -> None:
    """A bucket whose records were all evicted holds none of them in memory, although its second is far."""
    wheel, records = Wheel(LAG), [record(NOW + 500 * SECOND) for _ in range(3)]
    for one in records:
        wheel.put(one, NOW)
    for one in records:
        one.leave_bucket()
    [bucket] = wheel._buckets.values()
    assert [*bucket] == []
    assert [(one.newer, one.older, one.bucket) for one in records] == [(None, None, None)] * 3


STEPS = st.lists(st.tuples(st.sampled_from(["put", "discard", "take"]), st.integers(0, 5), st.integers(0, 2000)))


@given(STEPS)
def test_every_deadline_is_met(steps: list[tuple[str, int, int]]) -> None:
    """After any steps each record is in one bucket that comes before its deadline."""
    wheel, records, due, now = Wheel(LAG), [record(NOW) for _ in range(6)], {}, NOW
    for step, number, seconds in steps:
        one = records[number]
        match step:
            case "put":
                due[number] = now + seconds * SECOND
                end_at(one, due[number] - LAG)
                wheel.put(one, now)
            case "discard":
                one.leave_bucket()
                due.pop(number, None)
            case "take":
                now += seconds * SECOND // 10
                while (taken := wheel.pop_due(now)) is not None:
                    left = due.pop(records.index(taken))
                    if left > now:
                        due[records.index(taken)] = left
                        wheel.put(taken, now)
                        break
        assert held(wheel) == len(due)
        for index, at in due.items():
            assert records[index].bucket.second * SECOND < at + SECOND


def held(wheel: Wheel) -> int:
    """Return the number of records in all buckets."""
    return sum(len([*bucket]) for bucket in wheel._buckets.values())


def end_at(one: Record, end: int) -> None:
    """Move the end of a record's relation."""
    one.life = end - one.youngest.stamp
