"""Moments on the command line: epoch seconds or RFC 3339."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import click


class Moment(click.ParamType):
    """A time as epoch seconds."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Epoch seconds, from themselves or from RFC 3339 (without an offset: UTC)."""
        moment = parse_moment(value)
        if moment is None:
            self.fail(f"{value!r} is neither epoch seconds nor RFC 3339", param, ctx)
        return moment


def parse_moment(value: object) -> float | None:
    """A time as epoch seconds, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        moment = float(value)
    except (ValueError, OverflowError):
        moment = _rfc3339(str(value))
    return moment if math.isfinite(moment) else None


def _rfc3339(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
