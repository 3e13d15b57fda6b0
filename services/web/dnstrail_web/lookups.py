"""The lookups of the page at one server: the cache, or the store of the fleet."""

from __future__ import annotations

from typing import Any, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from dnstrail.client import LookupClient
from dnstrail.errors import DataSourceError, Unavailable
from dnstrail.process.clock import Clock
from dnstrail.protocol.lookups import OVERLOADED
from dnstrail_web.errors import ApiError, of_lookup

#: lookups of the page that wait for the cache, or for the store of the fleet -> `overloaded`
MOST_LOOKUPS: Final = 64


class PageLookups:
    """Lookups by one client, one at a time, in a thread of their own. `server` names who answers, for people."""

    def __init__(self, client: LookupClient, clock: Clock, server: str) -> None:
        self._client = client
        self._clock = clock
        self._server = server
        self._waiting = 0
        self._absent = float("-inf")  # when nobody answered last: those that wait for their turn do not ask again
        self._thread = CapacityLimiter(1)  # one client asks: a further thread would wait for it

    async def ask(self, op: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to a lookup.

        Raises:
            ApiError: the server refuses, or does not answer, or too many ask.
        """
        if self._waiting >= MOST_LOOKUPS:
            raise ApiError(OVERLOADED, f"{MOST_LOOKUPS} waiting lookups are the most")
        self._waiting += 1
        asked_at = self._clock.monotonic()
        try:
            return await run_sync(self._request, op, asked, asked_at, limiter=self._thread)
        except DataSourceError as error:
            raise of_lookup(error, self._server) from error
        finally:
            self._waiting -= 1

    def _request(self, op: str, asked: dict[str, Any], asked_at: float) -> dict[str, Any]:
        if self._absent > asked_at:
            raise Unavailable(self._client.address, 0)
        try:
            return self._client.request(op, **asked)
        except Unavailable:
            self._absent = self._clock.monotonic()
            raise
