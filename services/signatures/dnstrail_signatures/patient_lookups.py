"""Lookups of signatures: they wait for a cache that is away, and raise `Forgotten` where the cache cannot know."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dnstrail.bus import Bus
from dnstrail.client import DnsDataSource, Monotonic
from dnstrail.errors import DataNotFound, Forgotten, Unavailable

#: seconds for which lookups of signatures wait for a cache that is away, in one absence -> they fail at once until it
#: answers: `signature_unavailable`
PATIENCE = 30.0
_PAUSE = 0.1  # seconds between two requests to it
_REST = 1.0  # seconds between two requests to a cache for which they wait no more


class PatientDns(DnsDataSource):
    """The data source ("tracee", "dns") of a signature worker, whose events wait in their order.

    A lookup while the cache is away waits until it is back, for PATIENCE in one absence. After that lookups fail at
    once, until a request in between is answered. `pause` waits for some seconds, and returns True if the worker is to
    end: nothing waits any more then.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        bus: Bus | None = None,
        beat: Callable[[], None] = lambda: None,
        pause: Callable[[float], bool],
        timeout: float = 1.0,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        super().__init__(address, timeout=timeout, bus=bus, monotonic=monotonic, beat=beat)
        self._pause = pause
        self._monotonic = monotonic
        self._since: float | None = None  # when the cache went away
        self._failed: tuple[float, Unavailable] | None = None  # the last request for which nothing waited

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        if self._failed is not None and self._monotonic() < self._failed[0] + _REST:
            raise self._failed[1].with_traceback(None)  # else each raise would make it longer
        while True:
            began = self._monotonic()
            try:
                found = super()._ask(op, **fields)
            except Unavailable as error:
                self._wait(began, error)
            except DataNotFound as error:
                self._since = self._failed = None
                if not (error.complete and error.history):
                    raise Forgotten(error.key) from error
                raise
            else:
                self._since = self._failed = None
                if found.get("history") is False:
                    raise Forgotten(fields.get("keys"))
                return found

    def _wait(self, began: float, error: Unavailable) -> None:
        """Wait before the next request, or raise the error of the last one."""
        if self._since is None:
            self._since = began
        if self._monotonic() - self._since >= PATIENCE or self._pause(_PAUSE):
            self._failed = (self._monotonic(), error)
            raise error
