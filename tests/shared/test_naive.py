"""The naive model gives the answers that were worked out by hand."""

from __future__ import annotations

import pytest

from naive import NaiveModel
from sequences import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_hand_worked_answers(case: Case) -> None:
    """After the messages of a case, the model answers each of its lookups as the design says."""
    model = NaiveModel(case.grace)
    for stamp, payload in case.messages:
        model.feed(stamp, payload)
    for key, at, expected in case.lookups:
        got = model.get(key, at)
        if got is not None and expected is not None:
            got = {field: got[field] for field in expected}
        assert got == expected, (case.says, key, at)


def test_ids_are_unique() -> None:
    """No two cases share an id."""
    assert len({case.id for case in CASES}) == len(CASES)
