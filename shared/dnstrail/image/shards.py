"""A table of names that grows in small steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import i64

V = TypeVar("V")
# A part of a million names has less than 2^16 slots, so that their indices take two bytes. The number is a prime: the
# low bits of a hash select the slot in a part, and must differ between the names of a part.
# The hash is in an i64 wherever a part is chosen: half of all hashes do not fit in mypyc's own short integers.
PARTS: Final = 251


class Shards(Generic[V]):
    """A dict by name, in `parts` by the hash of the name. A dict grows in one step, which is short for a part."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[dict[str, V]] = [{} for _ in range(PARTS)]

    def get(self, name: str) -> V | None:
        """Return the value of a name, or None."""
        digest: i64 = hash(name)
        return self.parts[digest % PARTS].get(name)

    def __getitem__(self, name: str) -> V:
        digest: i64 = hash(name)
        return self.parts[digest % PARTS][name]

    def __delitem__(self, name: str) -> None:
        digest: i64 = hash(name)
        del self.parts[digest % PARTS][name]

    def __contains__(self, name: object) -> bool:
        digest: i64 = hash(name)
        return name in self.parts[digest % PARTS]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.parts)
