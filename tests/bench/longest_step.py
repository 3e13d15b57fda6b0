"""The longest step of the image with many roots, and the step of one message of 64 KiB."""

from __future__ import annotations

from collections.abc import Iterator

from figures import Figure, spread
from live_events import fresh_messages
from stopwatch import times

from builders.hostile import BOMBS
from dnstrail.image import Bounds, Image

ROOTS, MORE = 100_000, 20_000
_SPACING, _SWEPT = 100_000, 512
_SINCE = 1_700_000_000 * 10**9


def measure(_capture: str) -> Iterator[Figure]:
    """Fill an image with fresh names, and go on when it is full."""
    image = Image(Bounds(size=ROOTS))
    messages = (message for _, message in fresh_messages(ROOTS + MORE))
    samples = times(enumerate(messages), lambda item: _step(image, *item))
    for title, part in (("filling", samples[:ROOTS]), ("full", samples[ROOTS:])):
        yield from spread(f"a fresh name, {ROOTS:,} roots, {title}", part, "us", "p50", "p99", "p99.9")
        yield Figure(f"a fresh name, {ROOTS:,} roots, {title}: longest", max(part), "us")
    bombs = enumerate(BOMBS.values(), ROOTS + MORE)
    longest = max(times(bombs, lambda item: _step(image, *item)))
    yield Figure("longest step of a message of 64 KiB", longest / 1000, "ms")


def _step(image: Image, number: int, message: bytes) -> None:
    """Feed one message, and sweep after it."""
    image.feed(_SINCE + number * _SPACING, message)
    image.sweep(_SWEPT)
