"""The verdict on one connection."""

from __future__ import annotations

from typing import Any

import pytest

from join import Joined
from observer import Observed, Trails
from verdict import BY_TIME, DST_DNS, GOT, IN_SET, LAST, SEEN, TRAIL, mechanism, right
from wire import Connection

SECOND = 1_000_000_000
TRUE, OTHER = "true.example", "other.example"


def trail(name: str, last: float = 1.0, scope: str = "process", state: str = "live") -> dict[str, Any]:
    """Return a trail whose question was answered at a time in seconds."""
    return {"dns_root": name, "scope": scope, "state": state, "first_seen": last, "last_seen": last, "reasons": []}


def joined(names: list[str], trails: Trails, by_time: str = "", got: str = "") -> Joined:
    """Return a connection two seconds after the epoch, which meant TRUE."""
    event = Observed(2 * SECOND, 7, 1, 101, 0, "10.98.0.1", 443, names, trails, 0, by_time, got)
    return Joined(Connection(2 * SECOND, "10.97.1.2", 1, "10.98.0.1", 443, TRUE), event, None)


def test_each_measure_reads_its_own_answer():
    """`dst_dns`, `trail`, the lookups by time and the last question are judged each by its own first name."""
    true, earlier, later = trail(TRUE, 1.5), trail(OTHER, 1.4), trail(OTHER, 1.6)
    assert right(joined([TRUE, OTHER], [later, true])) == {SEEN, IN_SET, DST_DNS}
    assert right(joined([OTHER, TRUE], [true, later])) == {SEEN, IN_SET, TRAIL}
    assert right(joined([OTHER], [earlier, true])) == {SEEN, IN_SET, LAST}
    assert right(joined([TRUE], [])) == {SEEN, IN_SET, DST_DNS}
    assert right(joined([OTHER], [later])) == {SEEN}
    assert right(joined([OTHER], [later], TRUE, OTHER)) == {SEEN, BY_TIME}
    assert right(joined([OTHER], [later], OTHER, TRUE)) == {SEEN, GOT}


def test_a_connection_without_an_event_is_right_nowhere():
    """A connection that dnstrail did not see counts as wrong by every measure."""
    unseen = Joined(Connection(0, "10.97.1.2", 1, "10.98.0.1", 443, TRUE), None, None)
    assert right(unseen) == set()
    assert mechanism(unseen) == "no event"


@pytest.mark.parametrize(
    ("first", "true", "why"),
    [
        (trail(OTHER, 1.5), trail(TRUE, 1.0, "any"), "scope"),
        (trail(OTHER, 1.5), trail(TRUE, 1.0, state="grace"), "state"),
        (trail(OTHER, 1.5), trail(TRUE, 1.0), "order"),
        (trail(OTHER, 0.5), trail(TRUE, 1.0), "rank"),
    ],
)
def test_the_mechanism_is_the_first_difference_of_the_trails(first, true, why):
    """A true name that is not first differs from the first in scope, state or order."""
    assert mechanism(joined([TRUE], [first, true])).startswith(f"{why}:")


def test_a_true_name_without_a_trail_is_unknown_or_late_or_beyond_the_reply():
    """A true name that no trail as of the event shows is in no answer, in a later one, or beyond the reply."""
    assert mechanism(joined([OTHER], [trail(OTHER)])).startswith("not in the set:")
    assert mechanism(joined([TRUE], [trail(OTHER)])).startswith("time:")
    assert mechanism(joined([TRUE], [trail(OTHER)] * 100)).startswith("beyond:")
