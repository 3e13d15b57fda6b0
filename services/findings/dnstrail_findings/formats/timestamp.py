"""A time as text."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(nanoseconds: int) -> str:
    """Return a time since the epoch as RFC 3339 in UTC, with microseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
