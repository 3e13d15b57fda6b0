"""The names of connections as of their events: `dst_dns`, from `rank` lookups for each batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from dnstrail.client import DnsDataSource
from dnstrail.errors import DnstrailError, LookupRefused
from dnstrail.events import DST_DNS, SPECIFICATIONS, Event
from dnstrail.protocol.lookups import BAD_REQUEST, ConnectionTo

_CONNECTS = tuple(one.name for one in SPECIFICATIONS if any(field.name == DST_DNS for field in one.fields))
AT_ONCE = 64  # connections in one lookup: the cache ranks each lookup with bounded work, and serves others in between
_REST = 5.0  # seconds without lookups after one that failed: the stream of events must not wait


class ConnectionEnricher:
    """Adds `dst_dns` to connection events: the names of the destination as the cache ranks them.

    Every connection event gets the argument, [] where no name is known or no cache answers. A cache that is away
    delays the stream of events once in five seconds, and by one lookup. How long this lookup waits is up to the data
    source: in a signature worker the first one of an absence waits for up to 30 seconds. `unnamed` counts the
    connection events whose names no cache reported.
    """

    def __init__(self, dns: DnsDataSource | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._dns = dns
        self._monotonic = monotonic
        self._resting_until = float("-inf")
        self.unnamed = 0

    def fill(self, events: list[Event]) -> list[Event]:
        """Return the events of one batch, with the names of the connections among them."""
        if not any(event.event_name in _CONNECTS for event in events):
            return events
        connections = {place: to for place, event in enumerate(events) if (to := connection_to(event)) is not None}
        mark = events[0].mark if events else None
        names = self._names(list(dict.fromkeys(connections.values())), [] if mark is None else [mark])
        if self._dns is not None:
            self.unnamed += sum(connection not in names for connection in connections.values())
        return [
            replace(event, args={**event.args, DST_DNS: names.get(connections.get(place), [])})
            if event.event_name in _CONNECTS
            else event
            for place, event in enumerate(events)
        ]

    def _names(
        self, connections: list[ConnectionTo], marks: list[tuple[str, int]]
    ) -> dict[ConnectionTo | None, list[str]]:
        """Return the names of connections, from an image that contains the events at hand."""
        names: dict[ConnectionTo | None, list[str]] = {}
        if self._dns is None or self._monotonic() < self._resting_until:
            return names
        for first in range(0, len(connections), AT_ONCE):
            asked = connections[first : first + AT_ONCE]
            try:
                names |= zip(asked, self._dns.rank(asked, after=marks, patience=0), strict=True)
            except DnstrailError as error:
                if isinstance(error, LookupRefused) and error.code == BAD_REQUEST:
                    continue  # the host of these events stated something impossible, and delays no others
                self._resting_until = self._monotonic() + _REST
                break
            marks = []  # the cache has waited for them
        return names


def connection_to(event: Event) -> ConnectionTo | None:
    """Return the connection of a connection event as a request contains it; None for any other event."""
    if event.event_name not in _CONNECTS:
        return None
    try:
        address, port = event.arg("dst"), event.arg("dst_port")
        client, source_port = event.arg("src"), event.arg("src_port")
        if not isinstance(address, str):
            return None
        return ConnectionTo(
            address=address,
            process=event.process_id or None,
            container=event.container_id or None,
            client=client if client and isinstance(client, str) else None,
            port=port if isinstance(port, int) else None,
            source_port=source_port if source_port and isinstance(source_port, int) else None,
            host=event.host_name,
            socket=event.captured.flow.socket if event.captured.flow else 0,
            event=event.time,
        )
    except (DnstrailError, ValueError):  # the destination is no address, or an end of the flow is none
        return None
