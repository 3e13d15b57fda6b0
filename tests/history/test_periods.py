"""Old lives are merged by week, then by month, and state the same times and counts."""

from __future__ import annotations

from datetime import date

import pytest

from builders.facts import lives
from dnstrail.history.lives import AskingProgram, RelationLife, merge_lives
from dnstrail.history.periods import MONTHS_AFTER, WEEKS_AFTER, period_of

DAY = 86_400


def days(text: str) -> int:
    """Return the days since the epoch of a date."""
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def life(text: str, *, ttl: int = 60) -> RelationLife:
    """Return a life of one answer at the begin of a day."""
    begin = days(text) * DAY
    return RelationLife(
        days(text), ("a.example", 1, "192.0.2.1"), AskingProgram("curl", "web"), begin, begin, begin + ttl, 1, 0
    )


@pytest.mark.parametrize(
    ("day", "today", "first"),
    [
        ("2026-10-29", "2026-11-29", "2026-10-29"),
        ("2026-10-28", "2026-11-29", "2026-10-26"),
        ("2026-05-30", "2026-11-29", "2026-05-25"),
        ("2026-05-29", "2026-11-29", "2026-05-01"),
        ("2026-01-02", "2026-03-29", "2026-01-01"),
        ("2026-01-02", "2026-11-29", "2026-01-01"),
    ],
    ids=["a month", "a week", "half a year", "a month of days", "a week of two years", "a month with the first day"],
)
def test_the_period_of_a_day(day, today, first):
    """A day stands for itself for a month; then for its week, cut at the new year; after half a year for its month."""
    assert period_of(days(day), days(today)) == days(first)


def test_old_lives_are_merged(tmp_path):
    """When later lives arrive, the old ones of a period become one: the answers add up, and gaps are counted."""
    for number, text in enumerate(["2026-09-07", "2026-09-08", "2026-09-09", "2026-09-16"]):
        merge_lives(tmp_path, f"{number}", [life(text, ttl=2 * DAY if text.endswith("07") else 60)])
    assert len(lives(tmp_path)) == 4
    merge_lives(tmp_path, "4", [life("2026-10-25")])
    week, day, last = lives(tmp_path)
    first = days("2026-09-07")
    assert week == life("2026-09-07")._replace(last=(first + 2) * DAY, end=(first + 2) * DAY + 60, answers=3, gaps=0)
    assert day == life("2026-09-16")._replace(day=days("2026-09-14"))
    assert last == life("2026-10-25")
    merge_lives(tmp_path, "5", [life("2026-12-31")])
    assert {one.day: (one.answers, one.gaps) for one in lives(tmp_path)} == {
        days("2026-09-07"): (3, 0),
        days("2026-09-14"): (1, 0),
        days("2026-10-19"): (1, 0),
        days("2026-12-31"): (1, 0),
    }


def test_months_keep_the_counts(tmp_path):
    """Over a whole year the answers of all days are there, in at most a period for each day, week and month."""
    first, last = days("2026-01-01"), days("2026-12-31")
    dates = [str(date.fromordinal(date(1970, 1, 1).toordinal() + day)) for day in range(first, last + 1)]
    for part in range(0, len(dates), 5):
        merge_lives(tmp_path, f"{part}", [life(text) for text in dates[part : part + 5]])
    found = lives(tmp_path)
    assert sum(one.answers for one in found) == 365
    assert sum(one.gaps for one in found) == 365 - len(found)
    assert len(found) <= 1 + WEEKS_AFTER + (MONTHS_AFTER - WEEKS_AFTER) // 7 + 2 + 12
    assert (found[0].first, found[-1].last) == (first * DAY, last * DAY)
