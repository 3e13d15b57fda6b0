"""The report of losses of a worker, in its log and to the cache (docs/use/operate.md).

A source counts what the kernel or the probe lost, and each turn carries these counts by hop (`Turn.lost`). A
subscriber counts what the bus lost on the way to it (`TurnFollower.lost`). A `LossReporter` writes them to the worker's
log and sends them to the cache (operation `lost`). The cache adds all of them up (`dnstrail_cache/losses.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import structlog

from dnstrail.log_pause import LogPause


def worker_name(kind: str) -> str:
    """Return a name for this run of a worker: its losses are summed up under it."""
    return f"{kind} {secrets.token_hex(8)}"


class LossReporter:
    """Reports the losses of one worker to its log and to the cache.

    It reports at most every ten seconds, and only when the counts have grown, so that a storm of losses costs one
    line. No loss stays unreported: a report that `send` does not accept (False) is repeated, and `close` reports the
    rest. Counts only grow; `now` is monotonic, in seconds.
    """

    def __init__(self, send: Callable[[Mapping[str, int]], bool] = lambda _: True) -> None:
        self._send = send
        self._reported = 0
        self._pause = LogPause()

    def note(self, losses: Mapping[str, int], now: float) -> None:
        """Report the losses since the start if they have grown and the last report is long enough ago."""
        if sum(losses.values()) > self._reported and self._pause.note(now):
            self._report(losses)

    def close(self, losses: Mapping[str, int]) -> None:
        """Report at the end of the worker what is still unreported."""
        if sum(losses.values()) > self._reported:
            self._report(losses)

    def _report(self, losses: Mapping[str, int]) -> None:
        structlog.get_logger().warning("events_lost", **losses)
        if self._send(losses):
            self._reported = sum(losses.values())
