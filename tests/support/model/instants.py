"""Instants in integer nanoseconds, as image and model take them."""

from __future__ import annotations

SECOND = 10**9
START = 1_700_000_000 * SECOND  # the instant of the first message of most episodes


def ns(seconds: float) -> int:
    """Return seconds as integer nanoseconds."""
    return round(seconds * SECOND)
