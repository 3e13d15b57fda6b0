"""The board: what the main loop of a worker hands to the thread that serves its metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from prometheus_client.core import Metric

from dnstrail.process.heartbeat import SILENCE

PATIENCE = 0.5  #: seconds to wait for the main loop to collect metrics -> status 503
FRESH = 0.5  #: seconds between two collections of metrics -> earlier metrics are served again

Collect = Callable[[], list[Metric]]
Unready = Callable[[], str]


class Observe(Protocol):
    """A function that receives how to collect the metrics of a worker, and why it is not ready ("": it is)."""

    def __call__(self, collect: Collect, unready: Unready) -> None:
        """Begin to observe the worker."""


class Board:
    """The metrics of one worker at one moment of its main loop.

    Only the main loop collects, when the thread asks for it, so that no lock delays the loop and no metric changes
    while it is read. However often metrics are scraped, the loop collects them at most every FRESH seconds.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._monotonic = monotonic
        self._wake = wake
        self._wanted = threading.Event()
        self._collected = threading.Event()
        self._metrics: list[Metric] = []
        self._reason = "the worker has not started"
        self._at = self._turned = float("-inf")
        self._collect: Collect | None = None
        self._unready: Unready = lambda: self._reason

    def observe(self, collect: Collect, unready: Unready) -> None:
        """Note how to collect the metrics. The main loop calls this once, and then `turn`."""
        self._unready = unready
        self._collect = collect

    def turn(self) -> None:
        """Note that the main loop runs, and collect if the thread asked for it. The main loop calls this."""
        self._turned = self._monotonic()
        if self._collect is not None and self._wanted.is_set():
            self._wanted.clear()
            self._metrics, self._reason, self._at = self._collect(), self._unready(), self._turned
            self._collected.set()

    @property
    def hangs(self) -> bool:
        """True if the main loop has stood still for SILENCE, or has not begun."""
        return self._monotonic() - self._turned > SILENCE

    def metrics(self) -> list[Metric] | None:
        """Return the metrics, at most FRESH seconds old; None if the main loop does not hand them over in time."""
        return self._metrics if self._collect_soon() else None

    def unready(self) -> str:
        """Return why the worker is not ready, or ""."""
        if self.hangs:
            return "the main loop stands still"
        return self._reason if self._collect_soon() else "the main loop is too busy to report"

    def _collect_soon(self) -> bool:
        """Wait until the main loop has collected; return False if it takes longer than PATIENCE."""
        if self._monotonic() - self._at <= FRESH:
            return True
        if self.hangs:
            return False
        self._collected.clear()
        self._wanted.set()
        self._wake()
        return self._collected.wait(PATIENCE)
