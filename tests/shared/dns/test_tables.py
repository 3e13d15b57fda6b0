"""The table of recent entries: what it holds, and how much one step drops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnstrail.dns.tables import Recent


@given(st.integers(1, 8), st.lists(st.integers(0, 20)))
def test_the_last_entries_are_held(half, keys):
    """The last `half` new keys are found with their values, and at most twice as many entries are held."""
    table, added = Recent[int, int](half), {}
    for value, key in enumerate(keys):
        if table.get(key) is None:
            table.add(key, value)
            added.pop(key, None)
            added[key] = value
        assert table.get(key) == added[key]
        assert len(table) <= 2 * half
    for key in list(added)[-half:]:
        assert table.get(key) == added[key]


def test_entries_are_dropped_in_small_steps():
    """A new entry drops two at most, and the entries that wait to be dropped are bounded."""
    half = 1000
    table, held, most = Recent[int, int](half), 0, 0
    for number in range(10 * half):
        table.add(number, number)
        before, held = held, len(table) + sum(map(len, table._replaced))
        most = max(most, before + 1 - held)
    assert most == 2
    assert held <= 3 * half


def test_a_replaced_half_is_forgotten():
    """What was young when a half was replaced is forgotten when the next one is."""
    table = Recent[str, int](2)
    assert not table.add("a", 1)
    table.replace()
    assert table.get("a") == 1
    table.replace()
    assert table.get("a") is None
    assert [table.add(key, 0) for key in "bcd"] == [False, False, True]


def test_a_large_half_is_dropped_behind_small_ones():
    """A flood leaves a large half, and hardly anything comes after it: the large half is dropped all the same."""
    table = Recent[int, int](1000)
    for number in range(1000):
        table.add(number, number)
    for number in range(1000, 2000):
        table.replace()
        table.add(number, number)
    assert len(table) + sum(map(len, table._replaced)) < 10
