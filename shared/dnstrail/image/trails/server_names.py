"""Server names that clients sent (TLS server names, HTTP hosts): evidence beside DNS, never part of a lookup."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

import msgspec

from dnstrail.image.bounds import SECOND

#: server names -> those of the address least recently named are evicted: `evicted_server_names`
MAX_NAMES = 65536
#: server names of one address -> the oldest is evicted: `evicted_server_names`
MAX_NAMES_OF_ADDRESS = 64


class ServerNameSighting(NamedTuple):
    """One connection in which a client sent a server name; `evidence` is "sni" or "host", `stamp` in ns."""

    stamp: int
    name: str
    evidence: str
    client: str
    port: int


class SeenServerName(msgspec.Struct, frozen=True):
    """A server name of an address, its evidence, and the times (s) and number of its sightings that are held."""

    name: str
    evidence: str
    first_seen: float
    last_seen: float
    count: int


class ServerNameTable:
    """The newest sightings of server names by address, within two bounds; `counters` counts evictions."""

    def __init__(self, counters: dict[str, int]) -> None:
        self.counters = counters
        self._sightings: OrderedDict[str, deque[ServerNameSighting]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def note(self, address: str, sighting: ServerNameSighting) -> None:
        """Add a sighting of a server name at an address."""
        sightings = self._sightings.setdefault(address, deque())
        self._sightings.move_to_end(address)
        sightings.append(sighting)
        self._held += 1
        if len(sightings) > MAX_NAMES_OF_ADDRESS:
            sightings.popleft()
            self._count_evicted(1)
        while self._held > MAX_NAMES:
            _, oldest = self._sightings.popitem(last=False)
            self._count_evicted(len(oldest))

    def last(self, address: str, client: str | None, port: int | None, before: int) -> dict[str, int]:
        """Return the names that a client sent to a port of an address, each with its last time; None means any."""
        found: dict[str, int] = {}
        for sighting in self._before(address, before):
            if client in (None, sighting.client) and port in (None, sighting.port):
                found[sighting.name] = max(sighting.stamp, found.get(sighting.name, sighting.stamp))
        return found

    def of(self, address: str, before: int) -> list[SeenServerName]:
        """Return the server names of an address, the last seen first."""
        stamps: dict[tuple[str, str], list[int]] = {}
        for sighting in self._before(address, before):
            stamps.setdefault((sighting.name, sighting.evidence), []).append(sighting.stamp)
        found = [
            SeenServerName(*key, min(seen) / SECOND, max(seen) / SECOND, len(seen)) for key, seen in stamps.items()
        ]
        return sorted(found, key=lambda one: -one.last_seen)

    def _before(self, address: str, before: int) -> list[ServerNameSighting]:
        return [sighting for sighting in self._sightings.get(address, ()) if sighting.stamp < before]

    def _count_evicted(self, number: int) -> None:
        self._held -= number
        self.counters["evicted_server_names"] += number
