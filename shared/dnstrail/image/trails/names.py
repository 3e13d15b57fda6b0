"""The names of an address, the likeliest for one connection first (docs/trails.md)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from dnstrail.connection import Connection
from dnstrail.image.lookup import lookup
from dnstrail.image.trails.connection_history import ConnectionHistory
from dnstrail.image.trails.path import Path, find_paths
from dnstrail.image.trails.rank import SCOPES, rank
from dnstrail.image.trails.server_names import ServerNameTable
from dnstrail.image.view import View

MAX_RANKED = 256  # names of one address that are ordered by their trails; where there are more, only the askers count
_SINKHOLE_NETWORKS = ("0.", "127.")  # 0.0.0.0/8 and 127.0.0.0/8, in canonical text
_SINKHOLES = frozenset({"::", "::1"})


class AddressNames:
    """The live names of one address: in the order of a lookup (`plain`), and for one connection (`likeliest`).

    A sinkhole address belongs to every blocked name at once. It therefore has only those names that the process of the
    connection asked for itself, and no plain order. Walks are made once, however many connections share the address.
    """

    def __init__(
        self, view: View, address: str, limit: int, uses: ConnectionHistory, server_names: ServerNameTable
    ) -> None:
        self._view = view
        self._address = address
        self._limit = limit
        self._uses = uses
        self._server_names = server_names
        self._sinkhole = _is_sinkhole(address)
        found = lookup(view, address, limit)
        self._live = found.dns_queries if found else []

    @property
    def plain(self) -> list[str]:
        """The names as a lookup of the address orders them; [] at a sinkhole."""
        return [] if self._sinkhole else self._live

    @property
    def crowded(self) -> bool:
        """True if there are too many names to order them by their trails."""
        return len(self._live) > MAX_RANKED

    def likeliest(self, connection: Connection) -> list[str]:
        """Return the names, the likeliest for a connection first; [] without any.

        Names on no trail follow in the plain order. At a crowded address only the questions of this connection's
        process, container and client come first, in this order and the last question first.
        """
        if self._sinkhole and not connection.process:
            return []
        if len(self.plain) == 1 or not self._live:
            return self.plain
        first = self._asked(connection) if self.crowded else self._along_trails(connection)
        live = frozenset(self._live)
        return list(dict.fromkeys([*(name for name in first if name in live), *self.plain]))

    def _asked(self, connection: Connection) -> Iterator[str]:
        actors = (connection.process, *(() if self._sinkhole else (connection.container, connection.client)))
        for actor in actors:
            yield from reversed(self._uses.of(actor, self._address) if actor else {})

    def _along_trails(self, connection: Connection) -> Iterator[str]:
        """Yield the question of each path, then the targets of its steps."""
        ranked = rank(self._paths, self._address, connection, self._view.t, self._uses, self._server_names)
        for one in ranked:
            if not self._sinkhole or one.scope == SCOPES[0]:
                yield one.path.root
                yield from (step.target for step in one.path.steps)

    @cached_property
    def _paths(self) -> list[Path]:
        return find_paths(self._view, self._address, self._limit).found


def _is_sinkhole(address: str) -> bool:
    """Return whether resolvers answer with this address to block a name: it is unspecified or a loopback address."""
    return address.startswith(_SINKHOLE_NETWORKS) or address in _SINKHOLES
