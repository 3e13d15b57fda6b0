"""A connection of a `rank` request, completed by what the image knows of it."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.image.binding.binder import connection_of
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_cache.state.cache_state import CacheState

_LIGHT = 8  # connections that are searched in the time for one relation


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
    moment = at if at is not None or to.event is None else state.moment(None, event=to.event)
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


def _host_of(to: ConnectionTo, state: CacheState) -> str:
    """Return the name by which this cache knows the host of a connection; its client may know another one."""
    turn = None if to.event is None else state.follower.last(to.event[0])
    return to.host if turn is None else turn.host
