"""Losses are said when there are more of them, once in a while and not for each event: in the log, and to the cache."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import structlog

EVERY = 10.0  # seconds between two lines at least


def worker_name(kind: str) -> str:
    """What a worker calls itself, from its start to its end, where losses are summed up."""
    return f"{kind} {secrets.token_hex(8)}"


class LossLog:
    """Remembers what it has said. Counts only grow; `now` is monotonic, in seconds.

    `tell` is told, too; what it did not take (False) is said again.
    """

    def __init__(self, tell: Callable[[Mapping[str, int]], bool] = lambda _: True) -> None:
        self._tell = tell
        self._said = 0
        self._quiet_until = float("-inf")

    def note(self, losses: Mapping[str, int], now: float) -> None:
        """Say what was lost so far, if there is more of it than when it was said last."""
        total = sum(losses.values())
        if total <= self._said or now < self._quiet_until:
            return
        self._quiet_until = now + EVERY
        structlog.get_logger().warning("events_lost", **losses)
        if self._tell(losses):
            self._said = total
