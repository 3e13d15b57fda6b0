"""The trails of connections from a running cache, which is waited for while it is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dnstrail.client import LookupClient
from dnstrail.errors import DataNotFound, DnstrailError, Unavailable
from dnstrail_cli.enrich.formats import Fields

_REST: Final = 5.0  # seconds between two lookups of a cache that stayed away
_PAUSE: Final = 0.05  # seconds between two lookups of a cache that is waited for
Trail = Mapping[str, Any]


class TrailAsker:
    """Asks a cache for the first trail of each of many connections; the history answers where the cache forgot.

    A cache that is away is waited for, `patience` seconds in all. After that it is asked once in five seconds.
    `report` receives the begin and the end of such a time as text, and `stopped` ends the waiting.
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
        found: list[Trail] = []
        while len(found) < len(connections):
            trails = self._reply("trail_many", connections=connections[len(found) :])
            if trails is None:
                return None
            found += trails
        return [
            self._of_past(one, trail) if trail.get("history") is False else trail
            for one, trail in zip(connections, found, strict=False)
        ]

    def _reply(self, op: str, **fields: object) -> list[Trail] | None:
        """Return the data of a reply, None if no cache gave one in time."""
        while self._monotonic() >= self._resting_until:
            try:
                data = self._client.request(op, **fields)["data"]
            except DnstrailError as error:
                if self._gives_up(error):
                    break
                time.sleep(_PAUSE)
                continue
            if self._away_since is not None:
                self._away_since = None
                self._report("the cache answers again")
            return data if isinstance(data, list) and data else None
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

    def _of_past(self, connection: Fields, trail: Trail) -> Trail:
        """Return the trail that the history has, else that of the cache."""
        fields = {name: value for name, value in connection.items() if name != "address"}
        process = {"process": trail["process"]} if "process" in trail else {}
        try:
            reply = self._client.request("trail", key=connection["address"], limit=5, **fields)
        except DataNotFound as error:
            return trail if error.history is False else process
        except DnstrailError:
            return trail
        return trail if reply.get("source") is None else {**_first_of(reply["data"], connection["address"]), **process}


def _first_of(trails: Mapping[str, Any], address: object) -> dict[str, Any]:
    """Return the first one of the trails of a reply in the form of `trail_many`, without reverse records."""
    found = [one for one in trails["trails"] if one["dns_root"] != address]
    if not found:
        return {}
    first, *others = found
    asked = first["asked"][0] if first["asked"] and first["asked"][0]["process_id"] else None
    names = ("process_name", "name"), ("executable", "executable"), ("container_id", "container_id")
    known = {
        "dns_root": first["dns_root"],
        "state": first["state"],
        "scope": first["scope"],
        "rivals": [*dict.fromkeys(one["dns_root"] for one in others if one["dns_root"] != first["dns_root"])],
        "asked_by": asked and {"id": asked["process_id"], **{ours: asked[name] for name, ours in names if asked[name]}},
    }
    history = {} if trails["history"] else {"history": False}
    return {name: value for name, value in known.items() if value} | {"source": "history"} | history
