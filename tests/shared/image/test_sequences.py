"""Message sequences on which DNS caches of this kind go wrong, with the right results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dnstrail.image import Bounds, Circumstances, Image
from model.image_vs_model import shown
from model.instants import ns
from scenarios.bounds import BOUNDED, Bounded
from scenarios.lives import SPOKEN, Spoken
from scenarios.scenarios import CASES, Case

# Faults found in tracee, by number. Some concern other parts than the image: the tests that hold them are named.
FAULTS = (*range(1, 34), *range(40, 52), 54, 99)
ELSEWHERE = {40: ("probe/packets/test_dns_over_tcp.py", "test_messages_are_found")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_sequence_is_answered_as_designed(case: Case) -> None:
    """The image gives the result of every lookup of the sequence that the design demands."""
    image = Image(Bounds(grace=case.grace))
    for stamp, payload in case.messages:
        image.feed(ns(stamp), payload, Circumstances())
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
            image.feed(ns(step[0]), step[1], Circumstances())
    assert len(image.roots()) == case.places
    for key, expected in case.lookups:
        assert_found(image, key, None, expected)


@pytest.mark.parametrize("case", SPOKEN, ids=lambda case: case.says)
def test_sentence_is_true(case: Spoken) -> None:
    """The image gives the result that a sentence of the documentation demands."""
    image = Image(Bounds(grace=case.options.get("grace", 0)))
    for stamp, payload in case.messages:
        image.feed(stamp, payload, Circumstances(live="live" in case.options))
    assert not case.differs(shown(image.get(case.key, **case.instants)))


def test_every_fault_has_its_sequence() -> None:
    """Each known fault has a sequence here, or a named test of another part."""
    ids = {case.id for case in (*CASES, *BOUNDED)}
    missing = {fault for fault in FAULTS if f"tracee-B{fault:02}" not in ids}
    assert missing == ELSEWHERE.keys()
    for file, test in ELSEWHERE.values():
        assert f"def {test}(" in (Path(__file__).parents[2] / file).read_text()


def assert_found(image: Image, key: str, at: float | None, expected: dict[str, Any] | None) -> None:
    """Assert that a result has the expected fields."""
    got = shown(image.get(key, at=None if at is None else ns(at)))
    if got is not None and expected is not None:
        got = {field: got[field] for field in expected}
    assert got == expected, key
