"""The outcomes of questions that brought no data, by the rcode of the response (RFC 1035, section 4.1.1)."""

from __future__ import annotations

from typing import Final

_NO_DATA, _FAILED, _NXDOMAIN, _REFUSED = 0, 2, 3, 5
_OUTCOMES: Final = {_NO_DATA: "no data", _FAILED: "failed", _NXDOMAIN: "NXDOMAIN", _REFUSED: "refused"}


def outcome_of(rcode: int) -> str:
    """Return "no data", "failed", "NXDOMAIN", "refused", or "rcode N"."""
    return _OUTCOMES.get(rcode, f"rcode {rcode}")
