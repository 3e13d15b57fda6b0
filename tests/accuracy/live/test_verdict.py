"""The verdict on one connection."""

from __future__ import annotations

from typing import Any

import pytest

from join import Joined
from observer import Observed
from verdict import DST_DNS, IN_SET, LAST, SEEN, TRAIL, TRAIL_AT, mechanism, right
from wire import Connection

SECOND = 1_000_000_000
TRUE = "true.example"


def trail(name: str, last: float = 1.0, scope: str = "process", state: str = "live") -> dict[str, Any]:
    """Return a trail whose question was answered at a time in seconds."""
    return {"dns_root": name, "scope": scope, "state": state, "first_seen": last, "last_seen": last, "reasons": []}


def joined(names: list[str], trails: list[dict[str, Any]], trails_at: list[dict[str, Any]]) -> Joined:
    """Return a connection two seconds after the epoch, which meant TRUE."""
    event = Observed(2 * SECOND, 7, 1, 101, 0, "10.98.0.1", 443, names, trails, trails_at)
    return Joined(Connection(2 * SECOND, "10.97.1.2", 1, "10.98.0.1", 443, TRUE), event, None)


def test_each_measure_reads_its_own_answer():
    """`dst_dns`, `trail` and `trail --at` are judged each by its own first name."""
    true, other = trail(TRUE, 1.5), trail("other.example", 1.6)
    assert right(joined([TRUE, "other.example"], [other, true], [other])) == {SEEN, IN_SET, DST_DNS}
    assert right(joined(["other.example"], [true, other], [other])) == {SEEN, IN_SET, TRAIL}
    assert right(joined([], [other], [true])) == {SEEN, TRAIL_AT}
    assert right(joined([], [trail("other.example", 1.0), true], [])) == {SEEN, IN_SET, LAST}


def test_a_connection_without_an_event_is_right_nowhere():
    """A connection that dnstrail did not see counts as wrong by every measure."""
    unseen = Joined(Connection(0, "10.97.1.2", 1, "10.98.0.1", 443, TRUE), None, None)
    assert right(unseen) == set()
    assert mechanism(unseen, TRAIL) == "no event"


@pytest.mark.parametrize(
    ("first", "true", "why"),
    [
        (trail("other.example", 1.5), trail(TRUE, 1.0, "any"), "scope"),
        (trail("other.example", 1.5), trail(TRUE, 1.0, state="grace"), "state"),
        (trail("other.example", 1.5), trail(TRUE, 1.0), "order"),
        (trail("other.example", 0.5), trail(TRUE, 1.0), "rank"),
        (trail("other.example"), None, "not in the set"),
    ],
)
def test_the_mechanism_is_the_first_difference_of_the_trails(first, true, why):
    """A true name that is not first differs from the first in scope, state or order, or is missing."""
    trails = [first, true] if true else [first]
    assert mechanism(joined([], trails, trails), TRAIL).startswith(f"{why}:")


def test_an_answer_after_the_event_is_a_matter_of_time():
    """A true name that is missing as of the event, and was answered later by the cache's clock, is named so."""
    assert mechanism(joined([], [trail(TRUE, 2.1)], []), TRAIL_AT).startswith("time:")
