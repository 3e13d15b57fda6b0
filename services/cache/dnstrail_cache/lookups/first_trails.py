"""The first trail of each of many connections, as `dnstrail enrich` asks for them."""

from __future__ import annotations

from dnstrail.dns.names import address_text
from dnstrail.image.first_trail import FirstTrail, first_trail
from dnstrail.protocol.lookups import TrailManyRequest
from dnstrail_cache.lookups.open_connections import moment_of
from dnstrail_cache.state.cache_state import CacheState

AT_ONCE = 0.005  # seconds for one reply: events and other requests wait meanwhile


def first_trails(request: TrailManyRequest, state: CacheState) -> list[FirstTrail]:
    """Return the first trails of the connections, in their order, until the time for one reply is over."""
    at, now, monotonic = state.moment(request.at, request.at_ns), state.now, state.clock.monotonic
    until = monotonic() + AT_ONCE
    found: list[FirstTrail] = []
    for to in request.connections:
        address, moment = address_text(to.address) or "", moment_of(to, at, state)
        found.append(first_trail(state.image, address, to.on_host, now=now, at=moment))
        if monotonic() >= until:
            break
    return found
