from __future__ import annotations

from dnstrail.log_pause import EVERY, LogPause


def test_a_line_is_due_at_once_and_again_after_the_pause():
    """The first of many is logged at once, and the next line is due EVERY seconds later."""
    pause = LogPause()
    assert [pause.note(number * EVERY / 4) for number in range(9)] == [True, *[False] * 3, True, *[False] * 3, True]


def test_the_count_contains_what_was_not_logged():
    """The count of a line contains what happened since the line before."""
    pause = LogPause()
    pause.note(0.0)
    pause.note(1.0, 5)
    assert pause.note(EVERY)
    assert pause.count == 7
