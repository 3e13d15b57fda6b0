"""The wheel: deadlines by the second."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.order import Party
from dnstrail.image.record import Record, Root, Sighting
from dnstrail.image.wheel import Wheel

NOW = 1_700_000_000 * SECOND + 1


def record() -> Record:
    """Return a record as far as the wheel uses it."""
    evidence = Evidence(1, None, b"", b"", matched=False, foreign=None)
    return Record(
        Root("a", Party(("", "", 0))), (("a", 1, "1.1.1.1"),), Sighting(0, 0, 1, (1,), evidence), doubted=False
    )


@pytest.mark.parametrize("ahead", [0, 1, SECOND - 1, SECOND, 599 * SECOND, 601 * SECOND, 7 * 86_400 * SECOND])
def test_a_record_is_taken_between_its_bucket_and_its_deadline(ahead: int) -> None:
    """A record is taken at most 64 s and one second before its deadline, and never a second after it."""
    wheel, one, due = Wheel(), record(), NOW + ahead
    wheel.put(one, due, NOW)
    assert wheel.take(max(NOW, due - 65 * SECOND) if ahead > 599 * SECOND else due - 1 - SECOND) is None
    assert wheel.take(due + SECOND) is one
    assert wheel.take(due + SECOND) is None
    assert (wheel._buckets, wheel._seconds) == ({}, [])


def test_deadlines_in_the_far_future_share_buckets() -> None:
    """Deadlines of a week need a bucket for each minute at most, not for each second."""
    wheel = Wheel()
    for ahead in range(700, 7 * 86_400, 7):
        wheel.put(record(), NOW + ahead * SECOND, NOW)
    assert len(wheel._buckets) <= 7 * 86_400 / 64 + 1


def test_a_record_is_in_one_bucket() -> None:
    """A record that is put again moves to an earlier bucket, and stays in it for a later deadline."""
    wheel, one = Wheel(), record()
    for ahead in (50, 20, 100, 7 * 86_400):
        wheel.put(one, NOW + ahead * SECOND, NOW)
    assert sum(map(len, wheel._buckets.values())) == 1
    assert wheel.take(NOW + 21 * SECOND) is one
    assert wheel.take(NOW + 10**6 * SECOND) is None


def test_an_emptied_bucket_keeps_no_table() -> None:
    """A bucket whose records were all evicted is as small as a new one, although its second is far."""
    wheel, records = Wheel(), [record() for _ in range(10_000)]
    for one in records:
        wheel.put(one, NOW + 500 * SECOND, NOW)
    for one in records:
        wheel.discard(one)
    [bucket] = wheel._buckets.values()
    assert sys.getsizeof(bucket) == sys.getsizeof(set())


STEPS = st.lists(st.tuples(st.sampled_from(["put", "discard", "take"]), st.integers(0, 5), st.integers(0, 2000)))


@given(STEPS)
def test_every_deadline_is_met(steps: list[tuple[str, int, int]]) -> None:
    """After any steps each record is in one bucket that comes before its deadline."""
    wheel, records, due, now = Wheel(), [record() for _ in range(6)], {}, NOW
    for step, number, seconds in steps:
        one = records[number]
        match step:
            case "put":
                due[number] = now + seconds * SECOND
                wheel.put(one, due[number], now)
            case "discard":
                wheel.discard(one)
                due.pop(number, None)
            case "take":
                now += seconds * SECOND // 10
                while (taken := wheel.take(now)) is not None:
                    left = due.pop(records.index(taken))
                    if left > now:
                        due[records.index(taken)] = left
                        wheel.put(taken, left, now)
                        break
        assert sum(map(len, wheel._buckets.values())) == len(due)
        for held, at in due.items():
            assert records[held].second * SECOND < at + SECOND
