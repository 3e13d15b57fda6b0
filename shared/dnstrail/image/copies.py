"""Copies of one response, and the first answers to queries (docs/capture.md)."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from dnstrail.image.answer import Edge
from dnstrail.image.queries import COPY, REORDER, WINDOW, Address, Key, Query, Socket, may_answer

_HELD: Final = 32768  # entries in one half of a table
_FREED: Final = 2  # entries of a replaced half that are freed with each new one: all of them at once take 20 ms
_Entry = TypeVar("_Entry")
MAX_EDGES: Final = 64  # of a first answer; a larger one is not held, and no conflict with it is found


class Halves(Generic[_Entry]):
    """A bounded table of recent entries in two halves.

    When the younger half is older than `window` (ns), or full, it replaces the older half, whose entries are then freed
    in small steps.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._until = 0
        self._young: dict[object, _Entry] = {}
        self._old: dict[object, _Entry] = {}
        self._replaced: list[dict[object, _Entry]] = []

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: object) -> _Entry | None:
        """Return the entry of a key, or None."""
        entry = self._young.get(key)
        return self._old.get(key) if entry is None else entry

    def put(self, key: object, entry: _Entry, stamp: int) -> None:
        """Set the entry of a key."""
        if stamp > self._until or len(self._young) >= _HELD:
            self._replaced.append(self._old)
            self._old, self._young, self._until = self._young, {}, stamp + self._window
        self._young[key] = entry
        if self._replaced:
            self._free()

    def _free(self) -> None:
        """Free a few entries of replaced halves, and a half that is empty."""
        half = self._replaced[-1]
        for _ in range(min(_FREED, len(half))):
            half.popitem()
        if not half:
            self._replaced.pop()


class Packet:
    """One response. Several copies of it may be captured.

    `stamp` is the stamp of the first copy. `sockets` contains the sockets at which a copy ended the wait of a query.
    `kept` states that a copy was admitted, and `edges` contains its relations.
    """

    __slots__ = ("edges", "kept", "sockets", "stamp")

    def __init__(self, stamp: int) -> None:
        self.stamp = stamp
        self.sockets: list[Socket] = []
        self.kept = False
        self.edges: tuple[Edge, ...] = ()


class Copies:
    """The responses of at least the last tenth of a second, by a hash of their bytes and their client."""

    def __init__(self) -> None:
        self._packets: Halves[Packet] = Halves(COPY)

    def find_or_add(self, digest: int, stamp: int) -> tuple[Packet, bool]:
        """Return the response with a hash that was captured a moment ago at any socket, else a new one; True if new."""
        packet = self._packets.get(digest)
        if packet is not None and abs(stamp - packet.stamp) <= COPY:
            return packet, False
        packet = Packet(stamp)
        self._packets.put(digest, packet, stamp)
        return packet, True


class FirstAnswers:
    """The first answers to queries of at least the last 30 s, by the key of the query.

    An entry contains the stamp of the query, the sources that its response may come from, and the relations of the
    answer. Evictions cast no doubt: only conflicts are found by this table.
    """

    def __init__(self) -> None:
        self._answers: Halves[tuple[int, tuple[Address, ...], tuple[Edge, ...]]] = Halves(WINDOW)

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: Key, server: Address, stamp: int) -> tuple[Edge, ...] | None:
        """Return the relations of the first answer to a query that this server answers again, None without."""
        first = self._answers.get(key)
        if first is None or not -REORDER <= stamp - first[0] <= WINDOW or not may_answer(server, first[1]):
            return None
        return first[2]

    def note(self, query: Query, edges: tuple[Edge, ...], stamp: int) -> None:
        """Note the answer that ended the last wait of a query; each query sent again has a first answer of its own."""
        asked, servers = query.ended
        self._answers.put(query.key, (asked, servers, edges if len(edges) <= MAX_EDGES else ()), stamp)


def conflicts(first: tuple[Edge, ...], second: tuple[Edge, ...]) -> bool:
    """Return whether two answers have targets, and none in common."""
    return bool(first and second and {edge[2] for edge in first}.isdisjoint(edge[2] for edge in second))
