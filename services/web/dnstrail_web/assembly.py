"""The assembly of the worker of the page: the server, which is made with the rights of the start, and the worker."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from dnstrail.bus import Bus
from dnstrail.client import LookupClient
from dnstrail.metrics.option import LOOPBACK
from dnstrail.process.clock import Clock, SystemClock
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.losses import LossReporter, worker_name
from dnstrail_web.access import Access, own_hosts
from dnstrail_web.api import Api, State
from dnstrail_web.app import Application
from dnstrail_web.feed import Feed
from dnstrail_web.health import Health
from dnstrail_web.lookups import PageLookups
from dnstrail_web.muting import Muting
from dnstrail_web.past import PastRecords
from dnstrail_web.server import STATIC, Tls, WebServer, bind
from dnstrail_web.worker import FINDING, TOPICS, WebWorker

_TIMEOUT: Final = 2.0  # seconds for a lookup
_SHORT: Final = 0.5  # seconds for the same in the main loop
_OF_FLEET: Final = 1.0  # seconds for a lookup of the fleet


class Place(NamedTuple):
    """Where the page is: its address and port, further names, TLS, its run-dir, and whom it asks.

    `lookups` is the address of its cache, `store` that of the store of the fleet; None: there is no fleet.
    """

    listen: tuple[str, int]
    hosts: tuple[str, ...]
    tls: Tls
    run_dir: Path
    lookups: str
    outer: str | None = None  # the origin of a proxy in front of this server
    store: str | None = None


class WebAssembly:
    """The parts of one worker. `history` is a folder, `mutes` a file, `findings` an address; None: there is none."""

    def __init__(self, place: Place, history: Path | None, mutes: Path | None, findings: str | None) -> None:
        listener = bind(*place.listen)
        port = listener.getsockname()[1]
        origin = place.outer or f"{'http' if place.tls is None else 'https'}://{_in_link(place)}:{port}"
        scheme = origin.partition(":")[0]
        self._clock = clock = SystemClock()
        self._health = Health(since=clock.wall())
        self._kept: deque[dict[str, Any]] = deque()
        self._findings = findings
        self._lookups = place.lookups
        self.feed = Feed()
        self.access = Access(place.run_dir, origin, port, clock.monotonic, secure=scheme == "https")
        state = State(
            PageLookups(LookupClient(place.lookups, timeout=_TIMEOUT), clock, "cache"),
            _fleet_of(place, clock),
            PastRecords(history),
            self.feed,
            self._health,
            Muting(mutes, clock.wall),
            None if findings is None else self._kept,
            clock,
            socket.gethostname(),
        )
        hosts = own_hosts([*_names_of(place.listen[0]), *place.hosts], port) | {origin.partition("://")[2]}
        application = Application(Api(state), self.access, hosts, scheme, STATIC)
        self._server = WebServer(application, self.access, self.feed, listener, place.tls)

    def worker(self, bus: Bus) -> WebWorker:
        """Return the worker, which is subscribed to facts and findings."""
        reporter, counters = (LookupClient(self._lookups, timeout=_SHORT, bus=bus) for _ in range(2))
        return WebWorker(
            FactFeed(bus, self._lookups, TOPICS),
            None if self._findings is None else bus.subscriber([self._findings], [FINDING]),
            self._server,
            self._health,
            self._kept,
            self._clock,
            losses=LossReporter(partial(reporter.report_losses, worker_name("web"))),
            lookups=counters,
        )

    @contextmanager
    def serving(self) -> Iterator[WebServer]:
        """Run the server until the end of the block, and remove its link then."""
        self._server.start()
        try:
            yield self._server
        finally:
            self._server.close()
            self.access.close()


def _fleet_of(place: Place, clock: Clock) -> PageLookups | None:
    if place.store is None:
        return None
    return PageLookups(LookupClient(place.store, timeout=_OF_FLEET), clock, "store of the fleet")


def _names_of(address: str) -> list[str]:
    """Return the names by which a browser reaches an address that is bound."""
    one = ip_address(address)
    if one.is_unspecified:
        return ["localhost", LOOPBACK, "::1"]
    return ["localhost", address] if one.is_loopback else [address]


def _in_link(place: Place) -> str:
    """Return the name of this server in its link."""
    address = place.listen[0]
    if place.hosts:
        return place.hosts[0]
    if ip_address(address).is_unspecified:
        return LOOPBACK
    return f"[{address}]" if ":" in address else address
