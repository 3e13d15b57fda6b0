"""A bounded table of recent entries, whose steps are all short."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The entries that were added last: at least `half`, and at most twice as many.

    They are in two halves. When the young half is full, it replaces the old one. Each new entry then drops two
    entries of replaced halves: thousands at once take milliseconds.
    """

    __slots__ = ("_half", "_old", "_replaced", "_young")

    def __init__(self, half: int) -> None:
        self._half = half
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._replaced: list[dict[K, V]] = []

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def add(self, key: K, value: V) -> bool:
        """Add an entry, and return whether the old half was replaced for it."""
        full = len(self._young) >= self._half
        if full:
            self.replace()
        self._young[key] = value
        if self._replaced:
            self._drop_two()
        return full

    def replace(self) -> None:
        """Replace the old half by the young one; an empty one is young then."""
        if self._old:
            self._replaced.append(self._old)
        self._old, self._young = self._young, {}

    def _drop_two(self) -> None:
        """Drop two entries of the replaced halves, if there are any."""
        for _ in range(2):
            if self._replaced:
                half = self._replaced[-1]
                half.popitem()
                if not half:
                    self._replaced.pop()
