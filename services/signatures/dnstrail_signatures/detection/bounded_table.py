"""A table that is bounded: beyond its bound, the entry that was used longest ago is evicted and counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedTable(Generic[Key, Value]):
    """Values by key, at most `most` of them. `evicted` counts the entries that gave way."""

    def __init__(self, most: int) -> None:
        self.evicted = 0
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys; the one that was used longest ago is the first."""
        return iter(self._values)

    def values(self) -> Iterator[Value]:
        """Iterate over the values, in the order of the keys."""
        return iter(self._values.values())

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, which is used now, or None."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> Value | None:
        """Set the value of a key; return the value that is evicted, or None."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) <= self._most:
            return None
        self.evicted += 1
        return self._values.popitem(last=False)[1]

    def of(self, key: Key, new: Callable[[], Value]) -> Value:
        """Return the value of a key; make it if there is none."""
        value = self.get(key)
        if value is None:
            value = new()
            self.put(key, value)
        return value

    def pop(self, key: Key) -> Value | None:
        """Remove a key and return its value, or None."""
        return self._values.pop(key, None)
