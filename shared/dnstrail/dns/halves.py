"""A bounded table of recent entries."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

_Entry = TypeVar("_Entry")
_ALWAYS: Final = 1 << 62


class Halves(Generic[_Entry]):
    """A bounded table of recent entries in two halves.

    When the younger half is older than `window` (ns), or has `held` entries, it replaces the older half. The entries
    of that are dropped in small steps. Without stamps only the number of entries counts.
    """

    def __init__(self, held: int, window: int = _ALWAYS) -> None:
        self._held = held
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

    def put(self, key: object, entry: _Entry, stamp: int = 0) -> None:
        """Set the entry of a key."""
        if stamp > self._until or len(self._young) >= self._held:
            self._replaced.append(self._old)
            self._old, self._young, self._until = self._young, {}, stamp + self._window
        self._young[key] = entry
        if self._replaced:
            self._drop_two(self._replaced[-1])

    def _drop_two(self, half: dict[object, _Entry]) -> None:
        """Drop two entries of a replaced half with each new one: 32,768 at once take 20 ms."""
        if half:
            half.popitem()
        if half:
            half.popitem()
        else:
            self._replaced.pop()
