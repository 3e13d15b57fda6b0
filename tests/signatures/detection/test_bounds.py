"""The state of detections: bounded tables, gates over time, repeats and novelty.

Tests of dnstrail_signatures.detection.stateful_signature.
"""

from __future__ import annotations

from dnstrail.testing import SignatureRun, dns_query
from dnstrail_signatures.builtin.dns_rare_type import DnsRareType, DnsRareTypeSettings
from dnstrail_signatures.detection.bounded_state import BoundedTable, BurstGate, Bursts, FirstSeen, Once

SECOND = 10**9


def test_the_entry_used_longest_ago_is_evicted():
    """Beyond its bound a table evicts the entry that was used longest ago, and counts it."""
    table = BoundedTable(2)
    for key in ("a", "b"):
        table.put(key, key)
    assert table.get("a") == "a"
    table.put("c", "c")
    assert ([*table], len(table), table.evicted) == (["a", "c"], 2, 1)
    assert (table.get("b"), table.pop("b"), table.of("c", list)) == (None, None, "c")


def test_a_gate_needs_enough_values_in_its_time():
    """The gate is reached with the last value that makes it complete; then the subject begins anew."""
    bursts = Bursts(BurstGate(3, 2, 10.0), 8)
    reached = [bursts.reached("s", value, at * SECOND) for at, value in enumerate(["a", "a", "b", "c", "d", "e"])]
    assert reached == [False, False, True, False, False, True]


def test_a_gate_is_not_reached_by_slow_or_repeated_values():
    """Values outside of the time do not count, nor do repeated ones count as distinct."""
    slow, same = Bursts(BurstGate(3, 3, 10.0), 8), Bursts(BurstGate(3, 2, 10.0), 8)
    assert not any(slow.reached("s", place, place * 6 * SECOND) for place in range(20))
    assert not any(same.reached("s", "a", place) for place in range(20))
    assert [Bursts(BurstGate(1, distinct, 10.0), 8).reached("s", "a", 0) for distinct in (0, 1, 2)] == [
        True,
        True,
        False,
    ]


def test_repeated_values_do_not_hide_distinct_ones():
    """Values that come twice each reach the gate, if so many distinct ones come within the time."""
    quick, slow = Bursts(BurstGate(3, 3, 10.0), 8), Bursts(BurstGate(3, 3, 10.0), 8)
    values = ["a", "a", "b", "b", "c", "c"]
    reached = [quick.reached("s", value, at * SECOND) for at, value in enumerate(values)]
    assert reached == [False, False, False, False, True, False]
    assert not any(slow.reached("s", value, at * 4 * SECOND) for at, value in enumerate(values))


def test_a_distinct_value_counts_from_its_last_time():
    """A value that comes again counts anew; one that is too old does not count, however often others come."""
    again = [("a", 0), ("b", 1), ("a", 20), ("b", 21), ("c", 22)]
    stale = [("a", 0), ("b", 1), ("c", 20), ("c", 21), ("c", 22)]
    for values, expected in ((again, [False] * 4 + [True]), (stale, [False] * 5)):
        bursts = Bursts(BurstGate(3, 3, 10.0), 8)
        assert [bursts.reached("s", value, at * SECOND) for value, at in values] == expected


def test_the_times_of_a_gate_can_be_out_of_order():
    """Values count that are within the time before or after the last one; a clock that went back makes no burst."""
    mixed = Bursts(BurstGate(3, 3, 10.0), 8)
    assert [mixed.reached("s", at, at * SECOND) for at in (2, 0, 1)] == [False, False, True]
    for gate, values in ((BurstGate(3, 1, 10.0), "aaa"), (BurstGate(1, 3, 10.0), "abc")):
        back = Bursts(gate, 8)
        assert not any(back.reached("s", value, at * SECOND) for value, at in zip(values, (3600, 4000, 0), strict=True))


def test_the_values_of_a_subject_are_bounded():
    """A subject has the times of the gate, and its distinct values, however many come."""
    bursts = Bursts(BurstGate(4, 2, 1.0), 8)
    assert not any(bursts.reached("s", at // 2, at * SECOND) for at in range(99))
    assert [len(each) for each in bursts.table.get("s")] == [4, 2]


def test_subjects_do_not_share_a_gate():
    """Each subject has its own values, and the subjects are bounded."""
    bursts = Bursts(BurstGate(2, 2, 10.0), 4)
    assert not any(bursts.reached(subject, 1, 0) for subject in range(20))
    assert (len(bursts.table), bursts.table.evicted) == (4, 16)


def test_a_subject_is_reported_again_after_its_time():
    """A subject is first once, and again when the time is over; the subjects are bounded."""
    once = Once(2, 10.0)
    assert [once.first("s", at * SECOND) for at in (0, 5, 9, 10, 15)] == [True, False, False, True, False]
    assert all(once.first(subject, 0) for subject in range(9))
    assert once.table.evicted == 8


def test_nothing_is_new_while_it_learns():
    """A subject is new once, after the time to learn; a known one never is; the subjects are bounded."""
    seen = FirstSeen(3, 10.0, ["known"])
    assert [seen.is_new(subject, at * SECOND) for subject, at in (("a", 0), ("known", 11), ("b", 11), ("b", 12))] == [
        False,
        False,
        True,
        False,
    ]
    assert seen.is_new("c", 12 * SECOND)
    assert seen.table.evicted == 1


def test_a_time_far_ahead_does_not_end_what_is_new():
    """The time to learn begins with the earliest time, whichever host's clock is ahead."""
    seen = FirstSeen(9, 10.0)
    times = (("a", 10**9), ("b", 0), ("c", 9), ("d", 11))
    assert [seen.is_new(subject, at * SECOND) for subject, at in times] == [False, False, False, True]


def test_a_signature_counts_what_its_tables_evict():
    """A signature that reports once has room for `subjects`; each further one evicts the oldest, and counts."""
    run = SignatureRun(DnsRareType, settings=DnsRareTypeSettings(subjects=2))
    for number in range(5):
        run.event(dns_query(f"a.d{number}.example TYPE65399", at=number))
    assert (len(run.findings), run.signature.evicted) == (5, 3)
