"""Message sequences on which DNS caches of this kind go wrong, with the right results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dnstrail.image import Bounds, Image
from scenarios.bounds import BOUNDED, Bounded
from scenarios.scenarios import CASES, Case

# Faults found in tracee, by number. Some concern other parts than the image: the tests that hold them are named.
FAULTS = (*range(1, 34), *range(40, 52), 54, 99)
ELSEWHERE = {40: ("probe/packets/test_dns_over_tcp.py", "test_messages_are_found")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_sequence_is_answered_as_designed(case: Case) -> None:
    """The image gives the result of every lookup of the sequence that the design demands."""
    image = Image(Bounds(grace=case.grace))
    for stamp, payload in case.messages:
        image.feed(stamp, payload)
    for key, at, expected in case.lookups:
        assert_found(image, key, at, expected)


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: case.id)
def test_bounded_sequence_is_answered_as_designed(case: Bounded) -> None:
    """After a sequence that meets bounds, the image gives and holds what the design demands."""
    image = Image(Bounds(size=case.size, owned=case.owned, grace=0))
    for step in case.steps:
        if isinstance(step, str):
            image.get(step)
        else:
            image.feed(*step)
    image.sweep(image.latest, 10**6)
    assert image.store.relations == case.kept
    for key, expected in case.lookups:
        assert_found(image, key, None, expected)


def test_every_fault_has_its_sequence() -> None:
    """Each known fault has a sequence here, or a named test of another part."""
    ids = {case.id for case in (*CASES, *BOUNDED)}
    missing = {fault for fault in FAULTS if f"tracee-B{fault:02}" not in ids}
    assert missing == ELSEWHERE.keys()
    for file, test in ELSEWHERE.values():
        assert f"def {test}(" in (Path(__file__).parents[2] / file).read_text()


def assert_found(image: Image, key: str, at: float | None, expected: dict[str, Any] | None) -> None:
    """Assert that a result has the expected fields."""
    found = image.get(key, at=at)
    shown = None if found is None else found.fields
    if expected is None or shown is None:
        assert shown is expected, key
    else:
        assert {field: shown[field] for field in expected} == expected, key
