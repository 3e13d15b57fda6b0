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
        if now >= self._quiet_until and sum(losses.values()) > self._said:
            self._quiet_until = now + EVERY
            self._say(losses)

    def close(self, losses: Mapping[str, int]) -> None:
        """Say at the end what has not been said."""
        if sum(losses.values()) > self._said:
            self._say(losses)

    def _say(self, losses: Mapping[str, int]) -> None:
        structlog.get_logger().warning("events_lost", **losses)
        if self._tell(losses):
            self._said = sum(losses.values())
