"""The naive model against results that were worked out by hand from docs/inside/image.md."""

from __future__ import annotations

from typing import Any

import pytest

from model.instants import ns
from model.naive import NaiveModel
from scenarios.bounds import BOUNDED, Bounded
from scenarios.scenarios import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_hand_worked_answers(case: Case) -> None:
    """After the messages of a case, the model gives the result of each lookup that was worked out by hand."""
    model = NaiveModel(case.grace)
    for stamp, payload in case.messages:
        model.feed(ns(stamp), payload)
    for key, at, expected in case.lookups:
        assert_found(model, key, at, expected)


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: case.id)
def test_hand_worked_answers_within_bounds(case: Bounded) -> None:
    """After a case that meets bounds, the model gives and holds exactly what was worked out by hand."""
    model = NaiveModel(0, size=case.size, owned=case.owned)
    for step in case.steps:
        if isinstance(step, str):
            model.get(step)
        else:
            model.feed(ns(step[0]), step[1])
    assert len(model.places.by_root) == case.places
    for key, expected in case.lookups:
        assert_found(model, key, None, expected)


def test_ids_are_unique() -> None:
    """No two cases share an id."""
    ids = [case.id for case in (*CASES, *BOUNDED)]
    assert len(set(ids)) == len(ids)


def assert_found(model: NaiveModel, key: str, at: float | None, expected: dict[str, Any] | None) -> None:
    """Assert that a result has the expected fields."""
    got = model.get(key, at=None if at is None else ns(at))
    if got is not None and expected is not None:
        got = {field: got[field] for field in expected}
    assert got == expected, (key, at)
