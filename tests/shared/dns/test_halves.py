"""The bounded table of recent entries."""

from __future__ import annotations

import pytest

from dnstrail.dns.halves import Halves


def test_a_full_half_replaces_the_older_one() -> None:
    """The last entries are held, at least as many as one half, and never more than two."""
    table: Halves[int] = Halves(10)
    for number in range(100):
        table.put(number, number)
        assert min(number + 1, 10) <= len(table) <= 20
        assert [table.get(last) for last in range(max(0, number - 9), number + 1)] == [
            *range(max(0, number - 9), number + 1)
        ]
    assert table.get(0) is None


def test_a_half_older_than_the_window_replaces_the_older_one() -> None:
    """An entry is held for one window at least, and for two at most before the next entry."""
    table: Halves[int] = Halves(10, window=5)
    table.put("a", 1, 1)
    table.put("b", 2, 7)
    assert (table.get("a"), table.get("b")) == (1, 2)
    table.put("c", 3, 13)
    assert (table.get("a"), table.get("b"), table.get("c")) == (None, 2, 3)


class Entry:
    """An entry that counts its end."""

    def __init__(self, freed: list[int]) -> None:
        self.freed = freed

    def __del__(self) -> None:
        self.freed.append(1)


@pytest.mark.parametrize("spacing", [0, 400])
def test_a_table_frees_its_entries_in_small_steps(spacing: int) -> None:
    """A new entry frees two old ones at most, whether a half is full or its window is over; memory stays bounded."""
    freed: list[int] = []
    most, count = 0, 150_000
    table: Halves[Entry] = Halves(32_768, 1_000_000)
    for number in range(count):
        before = len(freed)
        table.put(number, Entry(freed), number * spacing)
        most = max(most, len(freed) - before)
    assert most == 2
    assert count - len(freed) < 110_000
