"""A table of names that grows in small steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, TypeVar

V = TypeVar("V")
_PARTS: Final = 256  # a part of a million names has less than 2^16 slots, so that their indices take two bytes
MASK: Final = _PARTS - 1


class Shards(Generic[V]):
    """A dict by name, in `parts` by the hash of the name. A dict grows in one step, which is short for a part."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[dict[str, V]] = [{} for _ in range(_PARTS)]

    def get(self, name: str) -> V | None:
        """Return the value of a name, or None."""
        return self.parts[hash(name) & MASK].get(name)

    def __getitem__(self, name: str) -> V:
        return self.parts[hash(name) & MASK][name]

    def __delitem__(self, name: str) -> None:
        del self.parts[hash(name) & MASK][name]

    def __contains__(self, name: object) -> bool:
        return name in self.parts[hash(name) & MASK]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.parts)
