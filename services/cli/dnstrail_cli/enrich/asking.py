"""The trails of connections from a running cache, which is waited for while it is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dnstrail.client import LookupClient
from dnstrail.errors import DnstrailError, Unavailable
from dnstrail_cli.enrich.formats import Fields

_REST: Final = 5.0  # seconds between two lookups of a cache that stayed away
_PAUSE: Final = 0.05  # seconds between two lookups of a cache that is waited for
_PAST_AT_ONCE: Final = 8  # connections of one lookup that is for the history: it may be slow, or away
Trail = Mapping[str, Any]


class TrailAsker:
    """Asks a cache for the first trail of each of many connections; the history answers where the cache forgot.

    A cache that is away is waited for, `patience` seconds in all. After that it is asked once in five seconds.
    `report` receives the begin and the end of such a time as text. A history that refuses a lookup is not asked again
    in the same `ask`. Once `stopped`, nothing is waited for, and the history is not asked.
    """

    def __init__(
        self,
        client: LookupClient,
        patience: float,
        report: Callable[[str], None],
        stopped: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._patience = patience
        self._report = report
        self._stopped = stopped
        self._monotonic = monotonic
        self._away_since: float | None = None
        self._resting_until = float("-inf")

    def ask(self, connections: Sequence[Fields]) -> list[Trail] | None:
        """Return the trails of connections, in their order, {} where none is known; None if no cache answers."""
        found = self._trails(connections)
        if found is None:
            return None
        forgotten = [place for place, trail in enumerate(found) if trail.get("history") is False]
        while forgotten and not self._stopped():
            places = forgotten[:_PAST_AT_ONCE]
            past = self._first_trails([connections[place] for place in places], history=True)
            if past is None:
                break
            for place, trail in zip(places, past, strict=False):
                found[place] = _better(found[place], trail)
            del forgotten[: len(past)]
        return found

    def _trails(self, connections: Sequence[Fields]) -> list[Trail] | None:
        """Return the trails of connections; None if no cache answers."""
        found: list[Trail] = []
        while len(found) < len(connections):
            trails = self._first_trails(connections[len(found) :])
            if trails is None:
                return None
            found += trails
        return found

    def _first_trails(self, connections: Sequence[Fields], **whom: bool) -> list[Trail] | None:
        """Return the trails of the first ones of some connections, each with its `source` if the history answered."""
        reply = self._reply(connections=connections, **whom)
        if reply is None:
            return None
        trails, source = reply.get("data"), reply.get("source")
        if not isinstance(trails, list) or not 0 < len(trails) <= len(connections):
            return None
        if not all(isinstance(trail, dict) for trail in trails):
            return None
        return trails if source is None else [{**trail, "source": source} for trail in trails]

    def _reply(self, **fields: object) -> Mapping[str, Any] | None:
        """Return a reply, None if no cache gave one in time, or it refused a lookup of the history."""
        while self._monotonic() >= self._resting_until:
            try:
                reply = self._client.request("trail_many", **fields)
            except DnstrailError as error:
                refused_past = "history" in fields and not isinstance(error, Unavailable)  # the cache itself answers
                if refused_past or self._gives_up(error):
                    break
                time.sleep(_PAUSE)
                continue
            if self._away_since is not None:
                self._away_since = None
                self._report("the cache answers again")
            return reply
        return None

    def _gives_up(self, error: DnstrailError) -> bool:
        """Return whether an error ends the waiting; what the cache refuses it refuses the next time, too."""
        now = self._monotonic()
        if self._away_since is None:
            self._away_since = now
            self._report(f"{error}; waiting for {self._patience:g} s")
        waits = isinstance(error, Unavailable) and now < self._away_since + self._patience
        if waits and not self._stopped():
            return False
        if self._resting_until < self._away_since:
            self._report("lines pass without names")
        self._resting_until = now + _REST
        return True


def _better(of_cache: Trail, of_past: Trail) -> Trail:
    """Return the trail of the history, with the process that the cache knows, unless the history knows less."""
    if not of_past.get("dns_root") and of_past.get("history") is False:
        return of_cache
    return {**{name: value for name, value in of_cache.items() if name == "process"}, **of_past}
