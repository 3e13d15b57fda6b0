"""Copies of one response, and the first answers to queries (docs/capture.md)."""

from __future__ import annotations

from typing import Generic, TypeVar

from dnstrail.image.answer import Edge
from dnstrail.image.queries import COPY, WINDOW, Address, Key

_HELD = 32768  # entries of one half of a table
_Entry = TypeVar("_Entry")
MAX_EDGES = 64  # of a first answer; a larger one is not held, and no conflict with it is found


class Halves(Generic[_Entry]):
    """A bounded table of recent entries in two halves.

    A half that is older than `window` (ns), or that holds _HELD entries, replaces the older half.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._until = 0
        self._young: dict[object, _Entry] = {}
        self._old: dict[object, _Entry] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: object) -> _Entry | None:
        """Return the entry of a key, None without."""
        entry = self._young.get(key)
        return self._old.get(key) if entry is None else entry

    def put(self, key: object, entry: _Entry, stamp: int) -> None:
        """Set the entry of a key."""
        if stamp > self._until or len(self._young) >= _HELD:
            self._old, self._young, self._until = self._young, {}, stamp + self._window
        self._young[key] = entry


class Copies:
    """The responses of at least the last tenth of a second that were admitted: stamp and relations.

    They are found by a hash of their bytes and their client.
    """

    def __init__(self) -> None:
        self._first: Halves[tuple[int, tuple[Edge, ...]]] = Halves(COPY)

    def find(self, digest: int, stamp: int) -> tuple[Edge, ...] | None:
        """Return the relations of the same response, if it was admitted a moment ago on whatever socket."""
        first = self._first.get(digest)
        return first[1] if first is not None and abs(stamp - first[0]) <= COPY else None

    def note(self, digest: int, stamp: int, edges: tuple[Edge, ...]) -> None:
        """Note an admitted response."""
        self._first.put(digest, (stamp, edges), stamp)


class FirstAnswers:
    """The first answers of at least the last 30 s: stamp, server and relations by the key of the query.

    Evictions cast no doubt: only conflicts are found by this table.
    """

    def __init__(self) -> None:
        self._answers: Halves[tuple[int, Address, tuple[Edge, ...]]] = Halves(WINDOW)

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: Key, server: Address, stamp: int) -> tuple[Edge, ...] | None:
        """Return the relations of the first answer to a query that this server answers again, None without."""
        first = self._answers.get(key)
        if first is None or abs(stamp - first[0]) > WINDOW or first[1] != server:
            return None
        return first[2]

    def note(self, key: Key, server: Address, stamp: int, edges: tuple[Edge, ...]) -> None:
        """Note the first answer to a query."""
        self._answers.put(key, (stamp, server, edges if len(edges) <= MAX_EDGES else ()), stamp)


def conflicts(first: tuple[Edge, ...], second: tuple[Edge, ...]) -> bool:
    """Return whether two answers have targets, and none in common."""
    return bool(first and second and {edge[2] for edge in first}.isdisjoint(edge[2] for edge in second))
