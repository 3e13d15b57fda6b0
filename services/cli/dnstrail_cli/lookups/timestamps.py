"""Times on the command line and in lines of input: epoch seconds, RFC 3339, and forms such as "yesterday 14:00"."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, time, timedelta

import click

from dnstrail.process.clock import end_of_digit, read_moment

_EXPECTED = (
    "write epoch seconds, RFC 3339 (2026-11-01T14:00:00+01:00), 14:00, 'today 9:30', 'yesterday 14:00', "
    "-5m or -2h30m (before now)"
)
_AGO = re.compile(r"-(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s)?", re.ASCII)
_CLOCK = re.compile(r"(?:(today|yesterday)\s+)?(\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)", re.ASCII)

_DATE = re.compile(r"(?:19|20)\d{6}", re.ASCII)  # of ISO 8601, and not a day of 1970 in seconds


class _BadTimeError(ValueError):
    """A text that is no time. The message continues a sentence that begins with the text."""


def convert_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the value of an option in epoch seconds; print the time and its zone where the value names no zone.

    A time with a fraction of a second stands for all of its last digit: `since` begins with it, and any other option
    ends with it. The lookup with the time of an event, which the table cuts to the millisecond, therefore finds it.

    Raises:
        BadParameter: the value is no time; click exits with 2.
    """
    if value is None or ctx.resilient_parsing:
        return None
    is_begin = param.name == "since"
    moment = read_moment(value, is_begin=is_begin) if _names_its_zone(value) else None
    if moment is None:
        local = _local_moment(value, "as of" if param.name == "at" else str(param.name))
        moment = local if is_begin else end_of_digit(local, value)
    return moment


def _local_moment(text: str, preposition: str) -> float:
    """Return the time that a text without a zone names, in epoch seconds, and print it with its zone.

    Raises:
        BadParameter: the text is no time.
    """
    try:
        local = parse_local(text, datetime.now().astimezone())
    except _BadTimeError as error:
        raise click.BadParameter(f"{text!r} {error}") from error
    click.echo(f"dnstrail: {preposition} {local:%Y-%m-%d %H:%M:%S %Z} ({local:%z})", err=True)
    return local.timestamp()


def local_time(moment: float | None) -> str:
    """Return a time (epoch seconds) for people, in the local zone of the host; "-" for None."""
    return "-" if moment is None else datetime.fromtimestamp(moment).astimezone().isoformat(" ", "seconds")


def parse_local(text: str, now: datetime) -> datetime:
    """Return the time that a text names at `now`, in the local zone of the host.

    Raises:
        ValueError: the text is no time, or a time in the future.
    """
    if (ago := _AGO.fullmatch(text)) and any(ago.groups()):
        days, hours, minutes, seconds = (int(part or 0) for part in ago.groups())
        distance = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return (now.astimezone(UTC) - distance).astimezone()  # in UTC, where every hour has the same length
    if clock := _CLOCK.fullmatch(text):
        return _on_day(clock[1] or "today", clock[2], now)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise _BadTimeError(f"is no time: {_EXPECTED}") from None


def _on_day(day: str, clock: str, now: datetime) -> datetime:
    try:
        at = time.fromisoformat(clock if clock[2] == ":" else f"0{clock}")
    except ValueError:
        raise _BadTimeError("is no time of day") from None
    date = now.date() - timedelta(days=day == "yesterday")
    meant = datetime.combine(date, at).astimezone()
    if meant > now:
        raise _BadTimeError(f"is in the future (it is now {now:%H:%M}): write 'yesterday {clock}'")
    return meant


def _names_its_zone(text: str) -> bool:
    """Return whether a text is epoch seconds, or a date and time with an offset."""
    if _DATE.fullmatch(text):
        return False
    try:
        return math.isfinite(float(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
