"""The names of one connection: the live names of its address, the likeliest first (DESIGN 6, `dst_dns`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dnstrail.connection import Connection
from dnstrail.image.lookup import lookup
from dnstrail.image.trails.connection_history import ConnectionHistory
from dnstrail.image.trails.path import find_paths
from dnstrail.image.trails.rank import SCOPES, Ranked, rank
from dnstrail.image.trails.server_names import ServerNameTable
from dnstrail.image.view import View

_SINKHOLE_NETWORKS = ("0.", "127.")  # 0.0.0.0/8 and 127.0.0.0/8, in canonical text
_SINKHOLES = frozenset({"::", "::1"})


def is_sinkhole(address: str) -> bool:
    """Return whether resolvers answer with this address to block a name: it is unspecified or a loopback address."""
    return address.startswith(_SINKHOLE_NETWORKS) or address in _SINKHOLES


def find_names(
    view: View,
    address: str,
    limit: int,
    connection: Connection,
    uses: ConnectionHistory,
    server_names: ServerNameTable,
) -> list[str]:
    """Return the names that a lookup of the address finds, in the order of its trails; [] if it finds nothing.

    A sinkhole address belongs to every blocked name at once. It therefore has only those names that the process of
    the connection asked for itself.
    """
    sinkhole = is_sinkhole(address)
    if sinkhole and not connection.process:
        return []
    found = lookup(view, address, limit)
    if found is None:
        return []
    if not sinkhole and len(found.dns_queries) == 1:
        return found.dns_queries
    ranked = rank(find_paths(view, address, limit).found, address, connection, view.t, uses, server_names)
    if sinkhole:
        ranked = [one for one in ranked if one.scope == SCOPES[0]]
    live = frozenset(found.dns_queries)
    names = [name for name in _names_along(ranked) if name in live]
    return list(dict.fromkeys(names if sinkhole else [*names, *found.dns_queries]))


def _names_along(ranked: Iterable[Ranked]) -> Iterator[str]:
    """Yield the question of each path, then the targets of its steps."""
    for one in ranked:
        yield one.way.root
        yield from (step.target for step in one.way.steps)
