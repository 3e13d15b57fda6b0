"""What a source yields: events, each with its name."""

from __future__ import annotations

from dnstrail.events import Captured

Captures = list[tuple[str, Captured]]
