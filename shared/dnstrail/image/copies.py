"""Copies of one response, and the first answers to queries (docs/capture.md)."""

from __future__ import annotations

from collections import Counter
from typing import Generic, NamedTuple, TypeVar

from dnstrail.image.queries import COPY, WINDOW, Address, Key

_HELD = 32768  # entries of one half of a table
_Entry = TypeVar("_Entry")
MAX_TARGETS = 64  # of a first answer; a larger one is not held, and no conflict with it is found


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
    """The responses of at least the last tenth of a second that were admitted, by their bytes and their client."""

    def __init__(self) -> None:
        self._stamps: Halves[int] = Halves(COPY)

    def is_copy(self, payload: bytes, client: Address, stamp: int) -> bool:
        """Return whether these bytes were admitted for this client a moment ago, on whatever socket."""
        first = self._stamps.get(hash((payload, client)))
        return first is not None and abs(stamp - first) <= COPY

    def note(self, payload: bytes, client: Address, stamp: int) -> None:
        """Note an admitted response."""
        self._stamps.put(hash((payload, client)), stamp, stamp)


class FirstAnswer(NamedTuple):
    """The first response to a query: its stamp, the sources it might come from, and the targets that it states."""

    stamp: int
    server: Address
    targets: frozenset[str]


class FirstAnswers:
    """The first answers of at least the last 30 s. Evictions cast no doubt: only conflicts are found by them."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._answers: Halves[FirstAnswer] = Halves(WINDOW)

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: Key, server: Address, stamp: int) -> FirstAnswer | None:
        """Return the first answer to the query that a response of this server answers again, None without."""
        first = self._answers.get(key)
        if first is None or abs(stamp - first.stamp) > WINDOW or first.server != server:
            return None
        return first

    def note(self, key: Key, server: Address, stamp: int, targets: frozenset[str]) -> None:
        """Note the first answer to a query."""
        held = targets if len(targets) <= MAX_TARGETS else frozenset[str]()
        self._answers.put(key, FirstAnswer(stamp, server, held), stamp)
