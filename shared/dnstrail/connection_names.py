"""The names behind connections: `dst_dns` of connects, from one lookup for all connections of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from dnstrail.client import DnsDataSource
from dnstrail.errors import DnstrailError
from dnstrail.events import NET_TCP_CONNECT, NET_UDP_CONNECT, Event
from dnstrail.protocol.lookups import MAX_KEYS

DST_DNS = "dst_dns"
_CONNECTS = (NET_TCP_CONNECT, NET_UDP_CONNECT)
_REST = 5.0  # seconds without lookups after one that nobody answered: the stream of events must not wait


class ConnectionEnricher:
    """Fills in where connections lead to, as the cache knows it; [] where nothing is known, or no cache answers."""

    def __init__(self, dns: DnsDataSource | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._dns = dns
        self._monotonic = monotonic
        self._resting_until = 0.0

    def fill(self, events: list[Event]) -> list[Event]:
        """The events of one batch, connections among them with their names."""
        connections = [event for event in events if event.event_name in _CONNECTS]
        if not connections:
            return events
        names = self._names({event.arg("dst"): None for event in connections}, connections[0])
        return [
            replace(event, args={**event.args, DST_DNS: names.get(event.arg("dst"), [])})
            if event.event_name in _CONNECTS
            else event
            for event in events
        ]

    def _names(self, addresses: Iterable[str], event: Event) -> dict[str, list[str]]:
        """What the cache knows of addresses, once it has seen the turn of the event."""
        if self._dns is None or self._monotonic() < self._resting_until:
            return {}
        asked = [address for address in addresses if isinstance(address, str)][:MAX_KEYS]
        self._dns.after = [event.mark] if event.mark else []
        try:
            found = self._dns.get_many(asked, patience=0)
        except DnstrailError:
            self._resting_until = self._monotonic() + _REST
            return {}
        return {address: data["dns_queries"] for address, data in zip(asked, found, strict=True) if data}
