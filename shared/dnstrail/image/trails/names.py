"""The names of an address, the likeliest for one connection first (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from dnstrail.connection import Connection
from dnstrail.dns.tables import Shards
from dnstrail.image.binding.scope import ANY_SCOPE, is_sinkhole, scope_of
from dnstrail.image.graph import newest_first
from dnstrail.image.lookup import look_up
from dnstrail.image.record import Root
from dnstrail.image.trails.path import Path, answers_of, find_paths
from dnstrail.image.trails.rank import rank
from dnstrail.image.trails.server_names import ServerNameTable
from dnstrail.image.view import View

#: names of one address that are ranked -> only the questions of the connection's process, container and client come
#: before the others: `rank_crowded`
MAX_RANKED = 256


class AddressNames:
    """The live names of one address: in the order of a lookup (`plain`), or for one connection (`likeliest`).

    A sinkhole address belongs to every blocked name at once. It therefore has only the names that the process of the
    connection asked for, and no plain order. All connections to the address share its walks.
    """

    def __init__(
        self, view: View, held: View, roots: Shards[Root], address: str, nodes: int, server_names: ServerNameTable
    ) -> None:
        self._view = view
        self._held = held
        self._roots = roots
        self._address = address
        self._nodes = nodes
        self._server_names = server_names
        self._sinkhole = is_sinkhole(address)
        most = view.budget
        found = look_up(view, roots, address, nodes) if address else None
        self._live = found[0].dns_queries if found else []
        self._work = most - view.budget

    @property
    def plain(self) -> list[str]:
        """The names as a lookup of the address orders them; [] at a sinkhole."""
        return [] if self._sinkhole else self._live

    @property
    def crowded(self) -> bool:
        """True if there are too many names to order them by their trails."""
        return len(self._live) > MAX_RANKED

    def take_work(self) -> int:
        """Return the number of relations, paths and answers that were read since the last call."""
        work, self._work = self._work, 0
        return work

    def likeliest(self, connection: Connection, bound: str = "") -> list[str]:
        """Return the names, the likeliest for a connection first; [] if there are none.

        `bound` is the name that the connection is bound to; it comes before all others.
        Names that are on no forward trail follow in the plain order, those of reverse records last. At a crowded
        address only the questions of the process, the container and the client of this connection come first: in this
        order, each with the last question first.
        """
        first = [bound] if bound else []
        if (self._sinkhole and not connection.process) or not self._live:
            return first
        if len(self.plain) != 1:
            live, asked = frozenset(self._live), self._asked if self.crowded else self._along_trails
            first += [name for name in asked(connection) if name in live]
        return list(dict.fromkeys([*first, *self.plain]))

    def _asked(self, connection: Connection) -> Iterator[str]:
        found = []
        for record in newest_first(self._view.graph.into, self._address):
            sightings = record.sightings()
            self._work += len(sightings)
            scope = min(scope_of(sighting.evidence, connection) for sighting in sightings)
            if scope == 0 or (scope < ANY_SCOPE and not self._sinkhole):
                found.append((scope, -record.youngest.number, record.root.name))
        for _, _, name in sorted(found):
            yield name

    def _along_trails(self, connection: Connection) -> Iterator[str]:
        """Yield the question of each path, then the targets of its steps.

        Reverse records are left out: their names come after those beside the trails. A sinkhole has no plain order.
        """
        paths, size = self._paths, self._size
        self._work += size
        for one in rank(paths, self._view, self._address, connection, self._server_names):
            if one.scope == 0 if self._sinkhole else not one.path.pointer:
                yield one.path.root.name
                yield from one.path.nodes[1:]

    @cached_property
    def _paths(self) -> list[Path]:
        most = self._view.budget + self._held.budget
        found = find_paths(self._view, self._held, self._roots, self._address, self._nodes).found
        self._work += most - self._view.budget - self._held.budget
        return found

    @cached_property
    def _size(self) -> int:
        """The number of the paths and of their answers, which each ranking reads."""
        return sum(1 + len(answers_of(self._view, path)) for path in self._paths)
