"""The batches of the last ten seconds are kept, in bounded memory."""

from __future__ import annotations

from dnstrail_signatures.group.replays import KEPT, MAX_BYTES, Received, RecentBatches


def received(at=0.0, turn=0, start="s", size=10):
    return Received(at, "t", start, turn, b"x" * size)


def test_batches_are_kept_for_ten_seconds():
    """An older batch is dropped, and its turn is missing from then on."""
    recent = RecentBatches()
    for turn in range(3):
        recent.add(received(float(turn), turn))
    recent.expire(KEPT + 1.5)
    assert [batch.turn for batch in recent] == [2]
    assert recent.first("s") == 2
    assert not recent.counters


def test_the_bytes_of_batches_are_bounded():
    """Beyond the bound the oldest batch is dropped before its time, and counted."""
    recent = RecentBatches()
    for turn in range(9):
        recent.add(received(0.0, turn, size=MAX_BYTES // 8))
    assert [batch.turn for batch in recent] == [2, 3, 4, 5, 6, 7, 8]
    assert recent.counters == {"buffer_overflow": 2}
    assert recent.first("s") == 2


def test_turns_before_the_first_one_are_missing():
    """A worker that joins in the middle of a start does not hold the turns before."""
    recent = RecentBatches()
    recent.begin("s", 40)
    assert (recent.first("s"), recent.first("unknown")) == (40, 0)


def test_nothing_is_held_of_a_start_that_is_forgotten():
    """Its batches and its first turn are dropped, and those of other starts stay."""
    recent = RecentBatches()
    for start in ("gone", "s"):
        recent.add(Received(1.0, "topic", start, 5, b"body"))
    recent.forget("gone")
    assert ([each.start for each in recent], recent.first("gone"), recent.first("s")) == (["s"], 0, 5)
    recent.add(Received(1.0 + KEPT, "topic", "s", 6, bytes(MAX_BYTES - 300)))
    assert recent.counters == {}
