"""What a source yields: events, each with its name."""

from __future__ import annotations

from dnstrail.events import Captured

Captures = list[tuple[str, Captured]]
LAST_TIME = (1 << 63) - 1  # ns since the epoch, as a signed 64-bit integer holds it: the year 2262
