"""Message sequences on which systems of this kind go wrong, with the answers of DESIGN 5."""

from __future__ import annotations

import pytest

from dnstrail.image import Bounds, Image
from sequences import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_sequence_is_answered_as_designed(case: Case) -> None:
    """The image answers every lookup of the sequence as DESIGN 5 says."""
    image = Image(Bounds(grace=case.grace))
    for stamp, payload in case.messages:
        image.feed(stamp, payload)
    for key, at, expected in case.lookups:
        found = image.get(key, at=at)
        shown = None if found is None else found.fields
        if expected is None or shown is None:
            assert shown is expected, key
        else:
            assert {field: shown[field] for field in expected} == expected, key
