"""Losses in the log: said when there are more of them, once in a while and not for each event."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

EVERY = 10.0  # seconds between two lines at least


class LossLog:
    """Remembers what it has said. Counts only grow; `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._said = 0
        self._quiet_until = float("-inf")

    def note(self, losses: Mapping[str, int], now: float) -> None:
        """Say what was lost so far, if there is more of it than when it was said last."""
        total = sum(losses.values())
        if total <= self._said or now < self._quiet_until:
            return
        self._said = total
        self._quiet_until = now + EVERY
        structlog.get_logger().warning("events_lost", **losses)
