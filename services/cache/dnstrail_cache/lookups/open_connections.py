"""The open connections in pages, each connection with the name that it means (docs/use/lookups.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.image.binding.binder import connection_of
from dnstrail.image.binding.bindings import Binding
from dnstrail.image.open_connections import ConnectionList, ConnectionPage, OpenConnection, in_order, selects
from dnstrail.protocol.lookups import ConnectionsRequest, ConnectionTo
from dnstrail_cache.state.cache_state import CacheState

_LIGHT = 8  # connections that are searched in the time for one relation
PAGE = 256  # connections of one page
AT_ONCE = 0.005  # seconds for one page: events and other requests wait meanwhile


class KnownConnection(NamedTuple):
    """A connection, the name to which it is bound ("" if none), and the time of its event (None: now).

    `work` is the number of connections that were searched for it, divided by _LIGHT.
    """

    connection: Connection
    bound: str
    at: int | None
    work: int = 0

    def first(self, names: list[str]) -> list[str]:
        """Return names with the bound one first."""
        return list(dict.fromkeys([self.bound, *names])) if self.bound else names


def find_connection(to: ConnectionTo, at: int | None, state: CacheState, *, search: bool) -> KnownConnection:
    """Return a connection as the image knows it: as of the time at which it was bound, else as of its event.

    A connection without a socket is searched among those to its address, if `search` says so.
    """
    moment = moment_of(to, at, state)
    bindings, address = state.image.binder.bindings, address_text(to.address) or ""
    binding, work = None, 0
    if to.socket:
        binding = bindings.of_socket((_host_of(to, state), to.socket))
    elif search:
        binding = state.image.binder.find(address, to.connection, state.now if moment is None else moment)
        work = bindings.searched(address) // _LIGHT
    if binding is None or binding.opening.address != address:
        return KnownConnection(to.connection, "", moment, work)
    return KnownConnection(connection_of(binding.opening), binding.meant(binding.stamp).name, binding.stamp, work)


def moment_of(to: ConnectionTo, at: int | None, state: CacheState) -> int | None:
    """Return the time of a connection on the clock of the stream: that of its request, else its own; None: now."""
    return at if at is not None else state.moment(None, to.at_ns, to.event)


def _host_of(to: ConnectionTo, state: CacheState) -> str:
    """Return the name by which this cache knows the host of a connection; its client may know another one."""
    turn = None if to.event is None else state.follower.last(to.event[0])
    return to.host if turn is None else turn.host


def page_of_connections(request: ConnectionsRequest, state: CacheState) -> ConnectionPage:
    """Return a page of the connections that were open at the first page, without those that ended meanwhile.

    The cursor contains the number of the last connection of the page before, and of the last one at the first page.
    With a past time the page contains those that were open then.
    """
    if (at := state.moment(request.at, request.at_ns)) is not None:
        return _page_at(at, request, state)
    bindings, monotonic = state.image.binder.bindings, state.clock.monotonic
    place, last = map(int, request.cursor.split() or (0, bindings.added))
    found: list[OpenConnection] = []
    shown = _shown(request, state)
    until, hosts = monotonic() + AT_ONCE, len(state.hosts)
    for binding in bindings.open_after(place):
        if binding.number > last:
            break
        if _is_asked_for(binding, request):
            found.append(shown(binding))
        if len(found) == PAGE or monotonic() >= until:
            return ConnectionPage(found, f"{binding.number} {last}", hosts)
    return ConnectionPage(found, "", hosts)


def _page_at(at: int, request: ConnectionsRequest, state: CacheState) -> ConnectionPage:
    bindings, monotonic = state.image.binder.bindings, state.clock.monotonic
    found: list[OpenConnection] = []
    shown = _shown(request, state, at)
    until, hosts, known = monotonic() + AT_ONCE, len(state.hosts), remembers_connections(at, state)
    opened = (one for one in bindings.open_at(at) if _is_asked_for(one, request))
    rest = in_order(opened, request.cursor, state.difference)
    for binding, cursor in rest:
        found.append(shown(binding))
        if len(found) < len(rest) and (len(found) == PAGE or monotonic() >= until):
            return ConnectionPage(found, cursor, hosts, known)
    return ConnectionPage(found, "", hosts, known)


def remembers_connections(at: int, state: CacheState) -> bool:
    """Return whether the image holds all connections that were open at a time, and the answers of then."""
    return state.image.remembers(at) and state.image.binder.bindings.remembers(at)


def _shown(
    request: ConnectionsRequest, state: CacheState, at: int | None = None
) -> Callable[[Binding], OpenConnection]:
    return ConnectionList(state.image, state.now, at, state.difference, rivals=request.rivals).shown


def _is_asked_for(binding: Binding, request: ConnectionsRequest) -> bool:
    return selects(request.described, binding.opening.host, binding.opening.process)
