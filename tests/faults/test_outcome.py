"""The verdict on a fault: what breaks a promise, and what was lost and counted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from outcome import COLUMNS, Outcome, heading, together

HELD = Outcome(
    fault="f",
    recovery=1.25,
    sent=100,
    received=100,
    counted=0,
    vanished=0,
    asked=9,
    failed=1,
    stuck=False,
    missing=0,
    counted_findings=0,
    lost_turns=0,
    twice=2,
    several_ids=0,
    not_found=0,
)
changed = partial(replace, HELD)
KEPT = {
    "nothing is missing": {},
    "a loss is counted": {"received": 90, "counted": 10},
    "a probe vanished": {"received": 90, "vanished": 1, "missing": 5},
    "missing findings are counted": {"missing": 5, "counted_findings": 5},
    "the turns of missing findings are counted": {"missing": 5, "lost_turns": 1},
}
BROKEN = {
    "a loss is not counted": ({"received": 90, "counted": 9}, "10 events lost, 9 counted"),
    "a message came twice": ({"received": 101}, "1 events more"),
    "a finding is missing": ({"missing": 5, "counted_findings": 4}, "5 findings missing, 4 counted"),
    "findings of several ids": ({"several_ids": 1}, "several ids"),
    "a name was not found": ({"not_found": 3}, "3 names not found"),
    "no lookup was answered": ({"stuck": True}, "not answered"),
    "the fault found something": ({"broken": ("the disk was not full",)}, "disk"),
}


@pytest.mark.parametrize("changes", KEPT.values(), ids=KEPT)
def test_a_promise_is_kept(changes):
    """A loss that is counted breaks no promise."""
    assert changed(**changes).faults == []


@pytest.mark.parametrize(("changes", "text"), BROKEN.values(), ids=BROKEN)
def test_a_promise_is_broken(changes, text):
    """Each broken promise is named."""
    [fault] = changed(**changes).faults
    assert text in fault


def test_the_row_of_a_table():
    """A row has a cell for each column, and states how a loss was counted."""
    assert HELD.row() == "| f | 1.2 s | 100 | 100 | 0 | 9 | 1 | 0 | 2 |"
    assert heading().splitlines()[0].count("|") == HELD.row().count("|") == len(COLUMNS) + 1
    assert "10 by `probes_vanished`" in changed(received=90, vanished=1).row()
    assert "10 NOT COUNTED" in changed(received=90).row()


def test_several_outcomes_in_one_row():
    """A row for several faults has their sums and the longest recovery, and names what broke."""
    both = together("all", [HELD, changed(recovery=3.0, received=90, counted=10, broken=("b",))])
    assert (both.fault, both.recovery, both.sent, both.lost, both.counted) == ("all, 2 times", 3.0, 200, 10, 10)
    assert both.faults == ["b"]
    assert together("one", [HELD]) is HELD
