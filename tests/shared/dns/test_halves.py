"""The bounded table of recent entries, and the tables of questions and targets in the decoder."""

from __future__ import annotations

import pytest

from builders.dns_builders import response_to
from dnstrail.dns import header, usual_answer
from dnstrail.dns.halves import Halves
from dnstrail.dns.header import read_header
from dnstrail.image.relate import relate_usual


def entries(table: Halves[int]) -> int:
    """Return the number of entries in memory, the dropped ones included."""
    return len(table) + len(table._dropped)


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


def test_dropped_entries_leave_in_small_steps() -> None:
    """No new entry frees a whole half, and memory stays bounded."""
    table: Halves[int] = Halves(1000)
    before = 0
    for number in range(10_000):
        table.put(number, number)
        assert before - entries(table) <= 1
        before = entries(table)
        assert before <= 3000


@pytest.mark.parametrize(
    ("table", "bound"),
    [(header._known, header._QUESTIONS), (usual_answer._targets, usual_answer._TARGETS)],
    ids=["questions", "targets"],
)
def test_tables_of_the_decoder_are_bounded(table: Halves[object], bound: int) -> None:
    """Endless fresh names fill two halves of each table at most, and are read as before."""
    for number in range(2 * bound + 2):
        payload = response_to(f"q{number}.example", f"q{number}.example CNAME t{number}.example")
        answer = relate_usual(payload, read_header(payload), 10)
        assert answer is not None
        assert answer.edges == ((f"q{number}.example", 5, f"t{number}.example"),)
    assert bound < len(table) <= 2 * bound
