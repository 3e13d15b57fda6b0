"""The names by which clients called servers (TLS server names, HTTP hosts): evidence beside DNS, never in a lookup."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import NamedTuple

import msgspec

MAX_CALLS = 65536  # in all; those of the address least recently called go first
MAX_CALLS_OF_ONE = 64  # address


class ServerNameSighting(NamedTuple):
    """One connection in which a server was called by a name; `evidence` is "sni" or "host", `stamp` in seconds."""

    stamp: float
    name: str
    evidence: str
    client: str
    port: int


class SeenServerName(msgspec.Struct, frozen=True):
    """A name by which a server was called, how that is known, and when and how often, as far as it is remembered."""

    name: str
    evidence: str
    first_seen: float
    last_seen: float
    count: int


class ServerNameTable:
    """The youngest calls of the addresses that were called last; `counters`: how many had to go."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._calls: OrderedDict[str, deque[ServerNameSighting]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def note(self, address: str, call: ServerNameSighting) -> None:
        """A server was called."""
        calls = self._calls.setdefault(address, deque())
        self._calls.move_to_end(address)
        calls.append(call)
        self._held += 1
        if len(calls) > MAX_CALLS_OF_ONE:
            calls.popleft()
            self._let_go(1)
        while self._held > MAX_CALLS:
            _, oldest = self._calls.popitem(last=False)
            self._let_go(len(oldest))

    def _let_go(self, number: int) -> None:
        self._held -= number
        self.counters["evicted_server_names"] += number

    def last(self, address: str, client: str | None, port: int | None, before: float) -> dict[str, float]:
        """By which names a client called the server at this port, and when last; of what is None, any."""
        found: dict[str, float] = {}
        for call in self._before(address, before):
            if client in (None, call.client) and port in (None, call.port):
                found[call.name] = max(call.stamp, found.get(call.name, call.stamp))
        return found

    def of(self, address: str, before: float) -> list[SeenServerName]:
        """The names by which an address was called, the last one first."""
        calls = self._before(address, before)
        counts = Counter((call.name, call.evidence) for call in calls)
        stamps = {key: [call.stamp for call in calls if (call.name, call.evidence) == key] for key in counts}
        found = [SeenServerName(*key, min(stamps[key]), max(stamps[key]), count) for key, count in counts.items()]
        return sorted(found, key=lambda one: -one.last_seen)

    def _before(self, address: str, before: float) -> list[ServerNameSighting]:
        return [call for call in self._calls.get(address, ()) if call.stamp < before]
