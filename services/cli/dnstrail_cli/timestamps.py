"""Moments on the command line: epoch seconds or RFC 3339."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import click


def convert_moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The value of a `--at` option as epoch seconds; BadParameter (exit 2) if it is no time."""
    if value is None:
        return None
    moment = parse_moment(value)
    if moment is None:
        raise click.BadParameter(f"{value!r} is neither epoch seconds nor RFC 3339")
    return moment


def parse_moment(value: object) -> float | None:
    """A time as epoch seconds, from themselves or from RFC 3339 (without an offset: UTC); None if it is none."""
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
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
