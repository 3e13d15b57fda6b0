"""A connection of a `rank` request, completed by what the image knows of it."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.image.binding.binder import connection_of
from dnstrail.image.binding.bindings import Binding
from dnstrail.protocol.lookups import ConnectionTo
from dnstrail_cache.state import CacheState


class KnownConnection(NamedTuple):
    """A connection, the name to which it is bound ("" if none), and the time of its event (None: now)."""

    connection: Connection
    bound: str
    at: int | None

    def first(self, names: list[str]) -> list[str]:
        """Return names with the bound one first."""
        return list(dict.fromkeys([self.bound, *names])) if self.bound else names


def find_connection(to: ConnectionTo, at: int | None, state: CacheState) -> KnownConnection:
    """Return a connection as the image knows it: as of the time at which it was bound, else as of its event."""
    moment = at if at is not None or to.event is None else state.moment(None, to.event)
    binding = _binding_of(to, moment, state)
    if binding is None:
        return KnownConnection(to.connection, "", moment)
    return KnownConnection(connection_of(binding.opening), binding.meant(binding.stamp).name, binding.stamp)


def _binding_of(to: ConnectionTo, at: int | None, state: CacheState) -> Binding | None:
    binder, address = state.image.binder, address_text(to.address) or ""
    if not to.socket:
        return binder.find(address, to.connection, state.now if at is None else at)
    binding = binder.bindings.of_socket((to.host, to.socket))
    return binding if binding is not None and binding.opening.address == address else None
