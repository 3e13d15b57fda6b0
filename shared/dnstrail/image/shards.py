"""A table of names that grows in small steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, TypeVar

V = TypeVar("V")
_PARTS: Final = 64
_MASK: Final = _PARTS - 1


class Shards(Generic[V]):
    """A dict by name, in parts by the hash of the name. A dict grows in one step, which is short for a part."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[dict[str, V]] = [{} for _ in range(_PARTS)]

    def part(self, name: str) -> dict[str, V]:
        """Return the dict that contains a name, if any does."""
        return self._parts[hash(name) & _MASK]

    def get(self, name: str) -> V | None:
        """Return the value of a name, or None."""
        return self._parts[hash(name) & _MASK].get(name)

    def __getitem__(self, name: str) -> V:
        return self.part(name)[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts[hash(name) & _MASK]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)
