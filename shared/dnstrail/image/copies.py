"""Copies of one response, and the first answers to queries (docs/capture.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.dns.halves import Halves
from dnstrail.image.answer import Edge
from dnstrail.image.queries import COPY, REORDER, WINDOW, Address, Key, Query, Socket, may_answer

_HELD: Final = 32768  # entries in one half of a table
MAX_EDGES: Final = 64  # of a first answer; a larger one is not held, and no conflict with it is found


class Packet:
    """One response. Several copies of it may be captured.

    `stamp` is the stamp of the first copy. `sockets` contains the sockets at which a copy ended the wait of a query.
    `kept` states that a copy was admitted, and `edges` contains its relations.
    """

    __slots__ = ("edges", "kept", "sockets", "stamp")

    def __init__(self, stamp: int) -> None:
        self.stamp = stamp
        self.sockets: tuple[Socket, ...] = ()
        self.kept = False
        self.edges: tuple[Edge, ...] = ()


class Copies:
    """The responses of at least the last tenth of a second, by a hash of their bytes and their client."""

    def __init__(self) -> None:
        self._packets: Halves[Packet] = Halves(_HELD, COPY)

    def find_or_add(self, digest: int, stamp: int) -> tuple[Packet, bool]:
        """Return the response with a hash that was captured a moment ago at any socket, else a new one; True if new."""
        packet = self._packets.get(digest)
        if packet is not None and abs(stamp - packet.stamp) <= COPY:
            return packet, False
        packet = Packet(stamp)
        self._packets.put(digest, packet, stamp)
        return packet, True


class FirstAnswers:
    """The queries of at least the last 30 s that were answered, with the relations of their first answers.

    Evictions cast no doubt: only conflicts are found by this table.
    """

    def __init__(self) -> None:
        self._queries: Halves[Query] = Halves(_HELD, WINDOW)

    def __len__(self) -> int:
        return len(self._queries)

    def find(self, key: Key, server: Address, stamp: int) -> tuple[Edge, ...] | None:
        """Return the relations of the first answer to a query that this server answers again, None without."""
        query = self._queries.get(key)
        if query is None:
            return None
        asked, servers = query.ended
        return query.edges if -REORDER <= stamp - asked <= WINDOW and may_answer(server, servers) else None

    def note(self, query: Query, edges: tuple[Edge, ...], stamp: int) -> None:
        """Note the answer that ended the last wait of a query; each query sent again has a first answer of its own."""
        query.edges = edges if len(edges) <= MAX_EDGES else ()
        self._queries.put(query.key, query, stamp)


def conflicts(first: tuple[Edge, ...], second: tuple[Edge, ...]) -> bool:
    """Return whether two answers have targets, and none in common."""
    return bool(first and second and {edge[2] for edge in first}.isdisjoint(edge[2] for edge in second))
