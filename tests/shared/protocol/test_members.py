"""The faults of signatures that a worker reports to the cache."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from dnstrail.protocol.members import MAX_FAILED, MAX_NAME, MAX_REASON, MAX_SIGNATURES, Faults, Work, failed, faults


def test_the_faults_of_a_signature_are_reported_together():
    """Errors, events over the budget and missed events stand under the id of their signature."""
    found = faults(errors=Counter(a=1), over_budget=Counter(a=2, b=3), muted=Counter(b=4))
    assert found == {"a": Faults(1, 2, 0), "b": Faults(0, 3, 4)}


def test_the_reported_signatures_are_bounded():
    """Those with most faults are reported; a long id is cut."""
    errors = Counter({f"{number}" + "x" * 2 * MAX_NAME: number for number in range(1, 2 * MAX_SIGNATURES)})
    found = faults(errors=errors)
    assert len(found) == MAX_SIGNATURES
    assert min(fault.errors for fault in found.values()) == MAX_SIGNATURES
    assert {len(name) for name in found} == {MAX_NAME}


def test_a_report_beyond_the_bound_is_refused():
    """A cache accepts no more signatures of one worker."""
    work = {"signatures": {str(number): {"errors": 1} for number in range(MAX_SIGNATURES + 1)}}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(work, Work)


def test_the_reported_reasons_are_bounded():
    """A worker reports a few signatures that do not run, and cuts a long reason; a cache accepts no more."""
    reasons = {f"{number}" + "x" * MAX_NAME: "y" * 2 * MAX_REASON for number in range(2 * MAX_FAILED)}
    found = failed(reasons)
    assert len(found) == MAX_FAILED
    assert msgspec.convert({"failed": found}, Work).failed == found
    for wrong in (reasons, dict.fromkeys(map(str, range(MAX_FAILED + 1)), ""), {"a": "y" * (MAX_REASON + 1)}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"failed": wrong}, Work)
